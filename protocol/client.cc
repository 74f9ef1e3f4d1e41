#include "protocol/client.h"

#include "protocol/client_connection.h"

namespace ringtide::protocol {
namespace {

void name_session(const std::string& name, uint64_t id, wire::SessionRef::Builder to) {
  to.setName(name);
  to.setId(id);
}

class RpcClient final : public Client {
 public:
  explicit RpcClient(const std::string& address)
      : connection_(std::make_shared<ClientConnection>(address)) {}

  std::unique_ptr<ClientSession> open(const OpenRequest& request, SessionInfo* info,
                                      bool* created) override {
    auto call = connection_->server().openRequest();
    write(request, call);
    const auto results = connection_->wait(call.send());
    check(results);
    const auto opened = results.getOpened();
    if (info != nullptr) *info = read(opened.getInfo());
    if (created != nullptr) *created = opened.getCreated();
    return make_session(connection_, opened.getSession());
  }

  std::vector<SessionInfo> list() override {
    const auto results = connection_->wait(connection_->server().listRequest().send());
    check(results);
    return read(results.getSessions());
  }

  SessionInfo info(const std::string& name, uint64_t id) override {
    auto call = connection_->server().infoRequest();
    name_session(name, id, call.initSession());
    const auto results = connection_->wait(call.send());
    check(results);
    return read(results.getInfo());
  }

  void remove(const std::string& name, uint64_t id) override {
    auto call = connection_->server().removeRequest();
    name_session(name, id, call.initSession());
    check(connection_->wait(call.send()));
  }

  Tokens tokenize(std::string_view text) override {
    // The server says the same, but a still longer text would end the connection.
    if (Outcome fits = tokenizable(text.size()); !fits.ok()) throw ClientError(std::move(fits));
    auto call = connection_->server().tokenizeRequest();
    call.setText(to_data(text));
    const auto results = connection_->wait(call.send());
    check(results);
    return read(results.getTokens());
  }

  ServerInfo server() override {
    const auto results = connection_->wait(connection_->server().serverRequest().send());
    check(results);
    return read(results.getServer());
  }

 private:
  const std::shared_ptr<ClientConnection> connection_;
};

}  // namespace

std::unique_ptr<Client> Client::connect(const std::string& address) {
  return std::make_unique<RpcClient>(address);
}

}  // namespace ringtide::protocol
