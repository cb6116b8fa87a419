// The first examples of every generator at seed 0, frozen: results of two versions can be compared only while this table stands.
//
// A row that fails prints the row of today. When the change is meant, put that row here and say in the commit which results it ends;
// when it is not, the generator is wrong. Whole numbers are compared by hash, real ones by a weighted sum, since compilers may round
// their last bits differently.
#include "frozen_examples.hpp"

#include <cinttypes>
#include <cstdio>

#include "open_task.hpp"
#include "rng.hpp"

using namespace ssm;

namespace {

struct Seen {
  std::uint64_t hash = 0;
  double sum = 0, size = 0;  // of real numbers with weights in [-1, 1) that differ from place to place; of their absolute values
  void add(const std::vector<std::int32_t>& numbers) {
    hash = mix(hash + numbers.size() + 1);
    for (const std::int32_t v : numbers) hash = mix(hash ^ (static_cast<std::uint64_t>(static_cast<std::uint32_t>(v)) + 1));
  }
  void add(const std::vector<float>& numbers) {
    hash = mix(hash + numbers.size() + 1);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (std::isnan(numbers[i])) continue;
      const double v = static_cast<double>(numbers[i]);
      sum += v * (static_cast<double>(mix(i + 1) >> 11) * 0x1p-52 - 1), size += std::abs(v);
    }
  }
};

Seen seen(const std::string& name) {
  const auto task = open_task(name, {}, 0);
  Seen out;
  Example e;
  for (const Split split : {Split::train, Split::test})
    for (Index i = 0; i < 3; ++i) {
      e.clear();
      task->example(split, i, e);
      out.add(e.tokens), out.add(e.second), out.add(e.targets), out.add(e.slices), out.add(e.marks);
      out.add(e.features), out.add(e.values);
    }
  return out;
}

std::string row(const std::string& name, const Seen& s) {
  char out[200];
  std::snprintf(out, sizeof out, "    {\"%s\", 0x%016" PRIx64 ", %.9g, %.9g},", name.c_str(), s.hash, s.sum, s.size);
  return out;
}

}  // namespace

TEST(FrozenExamples, AreWhatTheyWere) {
  std::vector<std::string> known;
  for (const Frozen& f : frozen_examples) known.emplace_back(f.task);
  const std::vector<std::string> tasks = generated_tasks();
  for (const std::string& name : known)
    EXPECT_NE(std::find(tasks.begin(), tasks.end(), name), tasks.end()) << "there is no generator " << name << ": its row goes";
  for (const std::string& name : tasks) {
    const Seen s = seen(name);
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) {
      ADD_FAILURE() << "tests/frozen_examples.hpp has no row of " << name << "; it is\n" << row(name, s);
      continue;
    }
    const Frozen& f = frozen_examples[found - known.begin()];
    const double allowed = 1e-5 * (1 + f.size);
    if (s.hash != f.hash || std::abs(s.sum - f.sum) > allowed || std::abs(s.size - f.size) > allowed)
      ADD_FAILURE() << name << " makes other examples than before. If that is meant, its row in tests/frozen_examples.hpp becomes\n"
                    << row(name, s);
  }
}
