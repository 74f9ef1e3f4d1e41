#include "actors/cluster/membership.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace ringtide::actors::cluster {

Membership::Admission Membership::join(const Terms& theirs, Member who) {
  if (std::string why = refusal(ours_, theirs); !why.empty()) return {0, std::move(why)};
  who.id = ++last_;
  comes(who.name);
  members_.push_back(std::move(who));
  return {last_, ""};
}

void Membership::leave(MemberId id, const std::string& why) {
  const auto found = std::ranges::find(members_, id, &Member::id);
  if (found == members_.end()) return;
  if (in_ring(id)) end(generation_, found->name + " is lost: " + why);
  aside_.erase(id);
  members_.erase(found);
}

bool Membership::set_aside(MemberId id) {
  return std::ranges::find(members_, id, &Member::id) != members_.end() && aside_.insert(id).second;
}

void Membership::comes(const std::string& name) {
  if (stage_ == Stage::Linking || stage_ == Stage::Standing)
    joined_ += (joined_.empty() ? "" : ", ") + name;
}

void Membership::form() {
  ++generation_;
  shards_.clear();
  std::ranges::copy_if(members_, std::back_inserter(shards_),
                       [&](const Member& member) { return !aside(member.id); });
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

bool Membership::answered(uint64_t generation, MemberId id) {
  if (generation == generation_ && in_ring(id)) answered_.insert(id);
  if (aside_.erase(id) == 0) return false;
  comes(std::ranges::find(members_, id, &Member::id)->name);
  return true;
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
