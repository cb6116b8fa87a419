// atomic_file.cpp - write to a temporary, rename.
#include "record/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

namespace ssm {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  throw std::runtime_error("cannot write '" + path + "': " + what + ": " + std::strerror(error));
}

// The temporary of `path`, open and ours: another process that held the lock may have renamed it away meanwhile, then a new one is made.
int open_locked(const std::string& path, const std::string& temporary) {
  for (;;) {
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) fail(path, "creating the temporary file", errno);
    struct flock whole {};  // not flock(): HDF5 would refuse to read the file between its renaming and its closing
    whole.l_type = F_WRLCK;
    while (::fcntl(fd, F_OFD_SETLKW, &whole) != 0 && errno == EINTR) continue;  // file systems without locks: go on without
    struct stat mine, named;
    if (::fstat(fd, &mine) == 0 && ::stat(temporary.c_str(), &named) == 0 && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev)
      return fd;
    ::close(fd);
  }
}

}  // namespace

void write_atomic(const std::string& path, const void* bytes, std::size_t count, bool durable) {
  const std::string temporary = path + ".tmp";
  const int fd = open_locked(path, temporary);
  const auto give_up = [&](const char* what) {
    const int error = errno;
    ::unlink(temporary.c_str());
    ::close(fd);
    fail(path, what, error);
  };
  if (::ftruncate(fd, 0) != 0) give_up("emptying the temporary file");
  constexpr std::size_t kChunk = std::size_t(1) << 30;  // Linux writes at most 2 GiB - 4 KiB in one call
  for (std::size_t done = 0; done < count;) {
    const ssize_t wrote = ::write(fd, static_cast<const char*>(bytes) + done, std::min(kChunk, count - done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) give_up("writing the temporary file");
    done += static_cast<std::size_t>(wrote);
  }
  if (durable && ::fsync(fd) != 0) give_up("fsync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) give_up("renaming the temporary file");
  ::close(fd);  // after the rename: the lock covers it
  if (!durable) return;
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return;  // a folder that may be written but not listed: the rename stands, only its durability is not forced
  ::fsync(dir);
  ::close(dir);
}

}  // namespace ssm
