// Runs a fuzz entry over the files of folders: any crash, sanitizer report or empty folder is a
// failure.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  int inputs = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string content{std::istreambuf_iterator<char>(in), {}};
      // Exactly as large as the input, so that a sanitizer sees any step past its end.
      const auto bytes = std::make_unique<uint8_t[]>(content.size());
      std::copy(content.begin(), content.end(), bytes.get());
      std::cout << entry.path().filename().string() << ": " << content.size() << " bytes"
                << std::endl;
      LLVMFuzzerTestOneInput(bytes.get(), content.size());
      ++inputs;
    }
  }
  std::cout << inputs << " inputs\n";
  return inputs > 0 ? 0 : 1;
}
