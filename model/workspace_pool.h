// Working memory that is kept from one call to the next, as much of it as calls ever ran at once.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ringtide::model {

// Any thread.
template <class Workspace>
class WorkspacePool {
 public:
  // One workspace, for as long as the lease lives. The pool must outlive it.
  class Lease {
   public:
    // `make` returns a unique_ptr to a new one, where none is idle.
    template <class Make>
    Lease(WorkspacePool& pool, const Make& make) : pool_(pool) {
      {
        std::lock_guard lock(pool_.mutex_);
        if (!pool_.idle_.empty()) {
          workspace_ = std::move(pool_.idle_.back());
          pool_.idle_.pop_back();
          return;
        }
      }
      workspace_ = make();
    }
    ~Lease() {
      std::lock_guard lock(pool_.mutex_);
      pool_.idle_.push_back(std::move(workspace_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() { return *workspace_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<Workspace> workspace_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;  // guarded by mutex_
};

}  // namespace ringtide::model
