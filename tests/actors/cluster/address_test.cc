// Addresses of shards, and which of them need certificates.
#include "actors/cluster/address.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace ringtide::actors::cluster {
namespace {

TEST(Address, HostsAndPorts) {
  const Address a = parse_address("127.0.0.1:7800");
  EXPECT_EQ(a.host, "127.0.0.1");
  EXPECT_EQ(a.port, 7800);
  EXPECT_EQ(parse_address("gpu-3.example.org").port, 0);
  EXPECT_EQ(parse_address("[::1]:80").host, "::1");
  EXPECT_EQ(parse_address("[::1]").host, "::1");
  EXPECT_EQ(to_string(parse_address("[::1]:80")), "[::1]:80");
  EXPECT_EQ(to_string(a), "127.0.0.1:7800");
}

TEST(Address, WhatIsNone) {
  for (const char* text : {"", ":80", "host:", "host:x", "host:65536", "host:-1", "::1", "[::1",
                           "[::1]80", "[]:80", "a:1:2"}) {
    EXPECT_THROW(parse_address(text), std::invalid_argument) << text;
  }
}

TEST(Address, OthersThanThisMachineNeedCertificates) {
  const Security none, all{"c", "k", "a"}, some{"c", "", "a"};
  for (const char* host : {"127.0.0.1", "127.8.9.1", "localhost", "::1"})
    EXPECT_EQ(exposure({host, 1}, none), "") << host;
  for (const char* host : {"0.0.0.0", "10.0.0.1", "127.example.org", "example.org", "::"}) {
    EXPECT_NE(exposure({host, 1}, none), "") << host;
    EXPECT_EQ(exposure({host, 1}, all), "") << host;
  }
  EXPECT_NE(exposure({"127.0.0.1", 1}, some), "") << "half of a security is none";
}

}  // namespace
}  // namespace ringtide::actors::cluster
