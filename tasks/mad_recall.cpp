// mad_recall.cpp - MAD's in-context recall: the value of every key that is seen again; training labels are all next tokens.
#include "mad.hpp"

namespace ssm::mad_recall {

struct MadRecall final : MadRecallTask {
  void knobs(Knobs& k) override { recall_knobs(k); }
  TaskInfo info() const override {
    return recall_info("the value of every key that is seen again (MAD: in-context recall)", &MadScores::in_context);
  }
};
SSM_TASK(MadRecall, "mad_recall");

}  // namespace ssm::mad_recall
