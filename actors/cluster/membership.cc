#include "actors/cluster/membership.h"

#include <algorithm>
#include <utility>

namespace ringtide::actors::cluster {

Membership::Admission Membership::join(const Terms& theirs, Member who) {
  if (std::string why = refusal(ours_, theirs); !why.empty()) return {0, std::move(why)};
  who.id = ++last_;
  if (stage_ == Stage::Linking || stage_ == Stage::Standing)
    joined_ += (joined_.empty() ? "" : ", ") + who.name;
  members_.push_back(std::move(who));
  return {last_, ""};
}

void Membership::leave(MemberId id, const std::string& why) {
  const auto found = std::ranges::find(members_, id, &Member::id);
  if (found == members_.end()) return;
  if (in_ring(id)) end(generation_, found->name + " is lost: " + why);
  members_.erase(found);
}

void Membership::form() {
  ++generation_;
  shards_ = members_;
  answered_.clear();
  linked_.clear();
  why_.clear();
  joined_.clear();
  stage_ = shards_.empty() ? Stage::Standing : Stage::Linking;
}

void Membership::linked(uint64_t generation, MemberId id) {
  if (generation != generation_ || stage_ != Stage::Linking || !in_ring(id)) return;
  linked_.insert(id);
  if (linked_.size() == shards_.size()) stage_ = Stage::Standing;
}

void Membership::answered(uint64_t generation, MemberId id) {
  if (generation == generation_ && in_ring(id)) answered_.insert(id);
}

std::vector<Member> Membership::awaited() const {
  std::vector<Member> late;
  if (stage_ != Stage::Linking) return late;
  const std::set<MemberId>& done = answered_.size() < shards_.size() ? answered_ : linked_;
  for (const Member& member : shards_) {
    if (!done.contains(member.id)) late.push_back(member);
  }
  return late;
}

void Membership::end(uint64_t generation, const std::string& why) {
  if (generation != generation_ || (stage_ != Stage::Linking && stage_ != Stage::Standing)) return;
  stage_ = Stage::Over;
  why_ = why;
}

std::string Membership::why_not() const {
  if (stage_ == Stage::Over) return why_;
  return joined_.empty() ? "" : joined_ + " joined";
}

bool Membership::in_ring(MemberId id) const {
  return std::ranges::find(shards_, id, &Member::id) != shards_.end();
}

}  // namespace ringtide::actors::cluster
