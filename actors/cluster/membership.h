// Who belongs to the cluster, and the ring that its members form: the leader's decisions, without
// actors, clocks or sockets.
//
// Rings follow one another, each under a number of its own. A ring is of those who are members when
// it is begun: the leader as shard 0, then the others in the order in which they joined. It links
// (every shard reaches every other), stands, and is over: with the first member that leaves, with
// the first failure, or when the next ring is begun. Nothing of an earlier ring counts any more.
//
// A member that is busy may be set aside: it stays a member, and rings are without it until it
// answers.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "actors/cluster/terms.h"

namespace ringtide::actors::cluster {

using MemberId = uint64_t;  // never given twice; the leader is none

struct Member {
  MemberId id = 0;
  std::string name;  // for people
  std::string host;  // where the other shards reach it
  uint16_t port = 0;
};

class Membership {
 public:
  // Rings are numbered from `generation` on: above those of any leader before.
  Membership(Terms ours, uint64_t generation) : ours_(std::move(ours)), generation_(generation) {}

  struct Admission {
    MemberId id = 0;      // 0: refused
    std::string refusal;  // and why
  };
  Admission join(const Terms& theirs, Member who);
  // It is gone, or is told to go. Of no member: nothing.
  void leave(MemberId id, const std::string& why);
  const std::vector<Member>& members() const { return members_; }
  // Rings are without it. False: it is no member, or set aside already.
  bool set_aside(MemberId id);
  bool aside(MemberId id) const { return aside_.contains(id); }
  // Members that are not set aside.
  size_t present() const { return members_.size() - aside_.size(); }

  // -- the ring ----
  enum class Stage : uint8_t { None, Linking, Standing, Over };
  // Begins the next one, of all who are present. Shard i > 0 is shards()[i - 1].
  void form();
  uint64_t generation() const { return generation_; }
  Stage stage() const { return stage_; }
  const std::vector<Member>& shards() const { return shards_; }
  // A shard has heard of it; a shard reaches all others. The leader does without saying so. One that
  // was set aside is present again by any answer, as if it had joined: true.
  bool answered(uint64_t generation, MemberId id);
  void linked(uint64_t generation, MemberId id);
  bool heard(MemberId id) const { return answered_.contains(id); }  // of it
  // Whom a ring waits for that still links: those who have not answered, or else are not linked,
  // which they may not be for another's silence.
  std::vector<Member> awaited() const;
  void end(uint64_t generation, const std::string& why);
  // Why it is over; of one that stands, that somebody joined or is present again; else empty.
  std::string why_not() const;

 private:
  bool in_ring(MemberId id) const;
  void comes(const std::string& name);

  Terms ours_;
  MemberId last_ = 0;
  std::vector<Member> members_;  // in the order in which they joined
  std::set<MemberId> aside_;
  // The ring.
  uint64_t generation_;
  Stage stage_ = Stage::None;
  std::vector<Member> shards_;
  std::set<MemberId> answered_, linked_;
  std::string why_;     // it is over
  std::string joined_;  // names of those who came since
};

}  // namespace ringtide::actors::cluster
