// frozen_examples.hpp - what the first examples of every generator at seed 0 are; see test_frozen_examples.cpp.
#pragma once
#include <cstdint>

namespace ssm {

struct Frozen {
  const char* task;
  std::uint64_t hash;  // of all whole numbers of the first 3 training and test examples
  double sum, size;    // of all real numbers, weighted and absolute
};

inline const Frozen frozen_examples[] = {
    {"adding", 0xe5c9faafb8260c57, -23.9197823, 3011.93709},
    {"associative_recall", 0x5e93c46abea88978, 0, 0},
    {"copying", 0xdbdfae3ed741508a, 0, 0},
    {"delay", 0xb510279bcef69cd7, 47.2632655, 21317.9118},
    {"gabor", 0x8c12573f0f3121e4, -20.5280266, 2017.72827},
    {"induction", 0x3d9fae01db67d2ad, 0, 0},
    {"listops", 0x02fab8dd9a3d225b, 0, 0},
    {"mad_compression", 0x241ec1f7fc179f49, 0, 0},
    {"mad_fuzzy_recall", 0x0fe83e39eaa83071, 0, 0},
    {"mad_memorisation", 0x005d2a4328b4c330, 0, 0},
    {"mad_noisy_recall", 0x0d3671c086ad2e67, 0, 0},
    {"mad_recall", 0x8258776d9d2b4dc6, 0, 0},
    {"mad_selective_copying", 0xe6c72538d629a38a, 0, 0},
    {"modular_arithmetic", 0xa070468092f8b2ec, 0, 0},
    {"mqar", 0x7e678e92dcba7340, 0, 0},
    {"needle", 0x123d64eab12e6d10, 0, 0},
    {"parity", 0x0be3821230273342, 0, 0},
    {"pathfinder", 0x78a9d1f38e3c9932, -6.7583101, 484.286288},
    {"pendulum", 0xf787741f1f8095b5, -57.3213509, 47966.5059},
    {"polar_text", 0xbfb97f52bdcee542, 0, 0},
    {"recall_text", 0x693d15db15eca448, 0, 0},
    {"reconstruct", 0xb6cbb9982fbaebf4, 15.4971787, 13430.6204},
    {"reverse", 0xd4c4fa0f599daaa1, 0, 0},
    {"selective_copying", 0x75b46bc3b408ebb6, 0, 0},
    {"shared_identifier", 0xb405c63e50869cba, 0, 0},
    {"strokes", 0x917190be1e7ed035, -6.63959834, 732.533088},
    {"topic_pairs", 0xc3bb1524f5a61667, 0, 0},
    {"word_problem", 0x4750e18db7f8c594, 0, 0},
};

}  // namespace ssm
