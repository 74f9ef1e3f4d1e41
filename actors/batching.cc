#include "actors/batching.h"

#include <algorithm>
#include <utility>

namespace ringtide::actors {
namespace {

void erase(std::deque<uint64_t>& from, uint64_t session) {
  from.erase(std::remove(from.begin(), from.end(), session), from.end());
}

}  // namespace

// -- sessions ----

void Batching::enter(uint64_t session) {
  Seat& seat = seats_[session];
  if (seat.place != Place::None) return;
  seat.place = Place::Asking;
  heavy_.push_back(session);
}

void Batching::block(uint64_t session) {
  Seat& seat = seats_.at(session);
  if (seat.blocks++ == 0) heavy_.push_back(session);
}

void Batching::start_row(uint64_t session, uint64_t row) {
  Seat& seat = seats_.at(session);
  if (seat.row == 0) rows_.push_back(session);
  seat.row = row;
  seat.pause = Pause::No;
}

void Batching::pause_row(uint64_t session, Pause pause) {
  const auto it = seats_.find(session);
  if (it == seats_.end()) return;
  it->second.pause = pause;
  if (pause == Pause::Long) ask_again();
}

void Batching::stop_row(uint64_t session, uint64_t row) {
  const auto it = seats_.find(session);
  if (it == seats_.end()) return tell(Event::Kind::RowStopped, session, row);
  if (it->second.row == row) {
    it->second.row = 0;
    erase(rows_, session);
  }
  it->second.stopping = row;
  settle_stop(session, it->second);
  ask_again();
}

void Batching::leave(uint64_t session) {
  const auto it = seats_.find(session);
  if (it == seats_.end()) return;
  const Place place = it->second.place;
  forget_work(session);
  for (Plan& plan : given_) std::erase(plan.sessions, session);
  seats_.erase(it);
  std::erase(refused_, session);
  if (place == Place::Present || place == Place::Entering) leaving_.push_back(session);
  ask_again();
}

bool Batching::present(uint64_t session) const {
  const auto it = seats_.find(session);
  return it != seats_.end() && it->second.place == Place::Present;
}

// -- worker ----

std::optional<Plan> Batching::next() {
  if (static_cast<int32_t>(given_.size()) >= limits_.ahead) return std::nullopt;
  if (!leaving_.empty()) {
    const uint64_t session = leaving_.front();
    leaving_.pop_front();
    return give(Plan::Kind::Leave, {session});
  }
  auto plan = burst_next_ ? next_burst() : next_heavy();
  if (!plan) plan = burst_next_ ? next_heavy() : next_burst();
  if (plan) burst_next_ = plan->kind != Plan::Kind::Decode;
  return plan;
}

std::optional<Plan> Batching::next_heavy() {
  if (heavy_.empty()) return std::nullopt;
  const uint64_t session = heavy_.front();
  heavy_.pop_front();
  Seat& seat = seats_.at(session);
  if (seat.place != Place::Present) {
    seat.place = Place::Entering;
    return give(Plan::Kind::Enter, {session});
  }
  const int32_t blocks = std::min(seat.blocks, limits_.blocks);
  seat.blocks -= blocks;
  if (seat.blocks > 0) heavy_.push_back(session);
  return give(Plan::Kind::Block, {session}, 0, blocks);
}

std::optional<Plan> Batching::next_burst() {
  std::vector<uint64_t> rows;
  for (const uint64_t session : rows_) {
    if (static_cast<int32_t>(rows.size()) == limits_.rows) break;
    if (seats_.at(session).pause == Pause::No) rows.push_back(session);
  }
  if (rows.empty()) return std::nullopt;
  for (const uint64_t session : rows) {
    erase(rows_, session);
    rows_.push_back(session);
  }
  return give(Plan::Kind::Decode, std::move(rows), limits_.steps);
}

Plan Batching::give(Plan::Kind kind, std::vector<uint64_t> sessions, int32_t steps,
                    int32_t blocks) {
  Plan plan{next_number_++, kind, std::move(sessions), steps, blocks};
  if (kind != Plan::Kind::Leave) {
    for (const uint64_t session : plan.sessions) {
      ++seats_.at(session).planned;
      seats_.at(session).used = plan.number;
      seats_.at(session).worked = kind != Plan::Kind::Enter;
    }
  }
  given_.push_back(plan);
  return plan;
}

void Batching::done(uint64_t number, Outcome outcome, const std::vector<EndedRow>& ended,
                    const std::vector<uint64_t>& displaced) {
  if (given_.empty() || given_.front().number != number) return;
  const Plan plan = std::move(given_.front());
  given_.pop_front();
  for (const EndedRow& row : ended) {
    const auto it = seats_.find(row.session);
    if (it == seats_.end() || it->second.row != row.row) continue;
    it->second.row = 0;
    erase(rows_, row.session);
  }
  if (plan.kind != Plan::Kind::Leave) {
    for (const uint64_t session : plan.sessions) {
      const auto it = seats_.find(session);
      if (it == seats_.end() || it->second.planned == 0) continue;
      Seat& seat = it->second;
      --seat.planned;
      if (plan.kind != Plan::Kind::Enter) {
        seat.strikes = 0;
      } else if (outcome == Outcome::Ok) {
        seat.place = Place::Present;
      } else if (outcome == Outcome::More) {
        heavy_.push_back(session);
      } else {
        seat.place = Place::None;
        if (outcome == Outcome::NoRoom) make_room(session);
      }
      settle_stop(session, seat);
    }
  }
  for (const uint64_t session : displaced) displace(session);
  ask_again();
}

// The engine has nothing of it any more: it hears so, and enters again if it still wants to.
void Batching::displace(uint64_t session) {
  const auto it = seats_.find(session);
  if (it == seats_.end() || it->second.place != Place::Present) return;
  for (Plan& plan : given_) std::erase(plan.sessions, session);
  forget_work(session);
  const uint64_t stopping = it->second.stopping;
  it->second = Seat{.strikes = it->second.strikes};
  tell(Event::Kind::Evicted, session);
  if (stopping) tell(Event::Kind::RowStopped, session, stopping);
}

void Batching::lost(Cause cause) {
  const int32_t weight = cause == Cause::Ring ? 1 : limits_.ring_losses;
  if (!given_.empty() && given_.front().kind != Plan::Kind::Leave) {
    for (const uint64_t session : given_.front().sessions) {
      if (const auto it = seats_.find(session); it != seats_.end()) it->second.strikes += weight;
    }
  }
  given_.clear();
  leaving_.clear();
  heavy_.clear();
  rows_.clear();
  // Who was refused in this engine asks the next one.
  const std::vector<uint64_t> refused = std::exchange(refused_, {});
  for (auto& [session, seat] : seats_) {
    const uint64_t stopping = seat.stopping;
    const bool given_up = seat.strikes >= limits_.strikes * limits_.ring_losses;
    const bool had_place = seat.place != Place::None;
    seat = Seat{.strikes = given_up ? 0 : seat.strikes};
    if (had_place) tell(given_up ? Event::Kind::GivenUp : Event::Kind::EngineLost, session);
    if (stopping) tell(Event::Kind::RowStopped, session, stopping);
  }
  for (const uint64_t session : refused) tell(Event::Kind::EngineLost, session);
}

std::vector<Batching::Event> Batching::take_events() { return std::exchange(events_, {}); }

// -- room ----

void Batching::make_room(uint64_t session) {
  Seat& seat = seats_.at(session);
  if (const auto other = victim()) {
    forget_work(*other);
    Seat& gone = seats_.at(*other);
    gone = Seat{.strikes = gone.strikes};
    leaving_.push_back(*other);
    tell(Event::Kind::Evicted, *other);
    seat.place = Place::Asking;
    heavy_.push_front(session);
    burst_next_ = false;
    return;
  }
  if (alone(session)) return tell(Event::Kind::TooLarge, session);
  refused_.push_back(session);
  tell(Event::Kind::Refused, session);
}

// Nobody else has a place, has had one until now, or is about to.
bool Batching::alone(uint64_t session) const {
  if (!leaving_.empty()) return false;
  const bool others_leave = std::any_of(given_.begin(), given_.end(), [](const Plan& plan) {
    return plan.kind == Plan::Kind::Leave;
  });
  return !others_leave && std::none_of(seats_.begin(), seats_.end(), [&](const auto& each) {
    return each.first != session &&
           (each.second.place == Place::Present || each.second.place == Place::Entering);
  });
}

void Batching::ask_again() {
  if (refused_.empty() || (leaving_.empty() && !victim())) return;
  const uint64_t session = refused_.front();
  refused_.erase(refused_.begin());
  enter(session);
}

std::optional<uint64_t> Batching::victim() const {
  std::optional<uint64_t> best;
  bool best_idle = false;
  for (const auto& [session, seat] : seats_) {
    const bool waits = seat.place == Place::Present && seat.row && seat.pause == Pause::Long &&
                       !seat.blocks && !seat.planned;
    if (!seat.idle() && !waits) continue;
    const bool better = !best || (seat.idle() && !best_idle) ||
                        (seat.idle() == best_idle && seat.used < seats_.at(*best).used);
    if (!better) continue;
    best = session;
    best_idle = seat.idle();
  }
  return best;
}

void Batching::settle_stop(uint64_t session, Seat& seat) {
  if (!seat.stopping || seat.planned > 0) return;
  tell(Event::Kind::RowStopped, session, std::exchange(seat.stopping, 0));
}

void Batching::forget_work(uint64_t session) {
  erase(heavy_, session);
  erase(rows_, session);
}

}  // namespace ringtide::actors
