/* SPDX-License-Identifier: Apache-2.0 */
/* inside.h - what the parts of the emulator share. */
#ifndef RR_EMUL_INSIDE_H
#define RR_EMUL_INSIDE_H

#include "emul.h"

namespace emul
{

[[noreturn]] void die(const char *why);
int this_thread(); /* of the block */
unsigned char *shared_memory_of(int block); /* of the cluster; it must not have ended */
/* The running fiber goes on when ready() says so. */
void wait_for(const std::function<bool()> &ready);
/* Runs in every second cluster at once, in the others when no thread can go on. */
void happen_some_time(const std::function<void()> &what);

float bits_16(uint16_t h, bool bf16);
float f8_value(uint8_t q);

/* emul90.cc: a cluster of blocks with so many threads each begins; the running thread comes to the
 * cluster's barrier; it ends. */
void begin_cluster_90(size_t blocks, size_t threads);
void cluster_barrier_90();
void end_thread_90();

} // namespace emul
#endif
