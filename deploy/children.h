// Processes of this program that belong to this one: started, started again when they end, and
// ended with it, however it ends.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ringtide::deploy {

struct Child {
  std::string name;                    // for people
  std::vector<std::string> arguments;  // after the program's name
};

class Children {
 public:
  // `gave_up`: one ended with an exit code that starting it again does not change; it stays ended.
  // Called from a thread of its own.
  Children(std::vector<Child> children, std::function<void(const std::string& why)> gave_up);
  ~Children();  // tells them to stop, waits, and kills those that take too long
  // It hangs: kills it, so that it is started again. No child of that name: nothing.
  void kill(const std::string& name);

 private:
  class Keeper;
  std::vector<std::unique_ptr<Keeper>> keepers_;
};

}  // namespace ringtide::deploy
