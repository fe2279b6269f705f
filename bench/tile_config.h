/* Included before every file of llama.cpp. gcc 12's own _tile_loadconfig tells the compiler of 8 of the 64 bytes that
 * it reads, and the others are then not written: llama.cpp dies of an illegal instruction on processors with AMX. */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(const char(*)[64])(config)))
#endif
