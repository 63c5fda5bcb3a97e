// The daemon's side of sharing: answers questions about tables and hands out their pages. One
// thread runs it; a client that stalls, sends junk or dies costs the others nothing, for nothing
// here ever waits for one client.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/host_arena.h"
#include "memory/table/share_protocol.h"
#include "memory/table/share_socket.h"

namespace engram::memory {

class ShareServer {
 public:
  // Makes the socket with these permissions (0600). A socket that a killed daemon left behind is
  // replaced: PATH.lock, which the kernel unlocks with its process, tells. FAILED_PRECONDITION:
  // another daemon serves there, or the path is no socket; INVALID_ARGUMENT: a path too long.
  static Result<std::unique_ptr<ShareServer>> listen(const std::string& path, unsigned mode);
  // Removes the socket. Attached clients keep their mappings.
  ~ShareServer();
  ShareServer(const ShareServer&) = delete;
  ShareServer& operator=(const ShareServer&) = delete;

  // Announces a table, still loading, before run(). `header` are the first 4096 bytes of its file.
  // Returns its number.
  int add(const std::string& path, const std::string& header, const std::string& id, int64_t bytes);

  // Any thread, while it runs. Pages are shareable, outlive run(), and are never written again
  // after set_ready().
  void set_progress(int table, int64_t bytes_done);
  void set_ready(int table, const TableMemory* memory);
  void set_failed(int table, const Status& status);

  // Serves until `stop` becomes readable.
  void run(int stop);

 private:
  struct Table {
    ShareEntry entry;
    std::string id;
    ShareReply attach;  // the reply to an attach request
    std::vector<int> descriptors;
  };
  struct Client;

  ShareServer(std::string path, Descriptor lock, Descriptor socket);
  void accept_clients();
  // False: the connection is over.
  bool serve(Client& client);
  bool answer(Client& client, const ShareRequest& request);
  bool answer_attach(Client& client, const std::string& id);
  bool send(Client& client, const ShareReply& reply, std::span<const int> descriptors);
  void drop_idle_clients();
  void release(const Client& client);

  // Constant.
  const std::string path_;
  const Descriptor lock_;
  const Descriptor socket_;

  // The thread in run().
  std::list<Client> clients_;
  bool accepting_ = true;  // false for a moment when there are no descriptors left

  std::mutex mu_;
  // Guarded by mu_. The vector itself is constant while it runs.
  std::vector<Table> tables_;
};

}  // namespace engram::memory
