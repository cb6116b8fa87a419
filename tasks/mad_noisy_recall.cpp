// mad_noisy_recall.cpp - MAD's noisy recall: in-context recall where a share of the pairs is replaced by two noise tokens.
#include "mad.hpp"

namespace ssm::mad_noisy_recall {

struct MadNoisyRecall final : MadRecallTask {
  MadNoisyRecall() { vocabulary = 32, noise_tokens = 16, noise = .2; }
  void knobs(Knobs& k) override {
    recall_knobs(k);
    k("noise", noise, {.2, .4, .6, .8}).range(0, .95).note("share of the pairs that are noise");
    k("noise_tokens", noise_tokens, {16}).range(1, 1 << 16).note("ids of the vocabulary that are noise");
  }
  TaskInfo info() const override {
    return recall_info("the value of every key that is seen again, among noise tokens (MAD: noisy recall)", &MadScores::noisy);
  }
};
SSM_TASK(MadNoisyRecall, "mad_noisy_recall");

}  // namespace ssm::mad_noisy_recall
