// test_record.cpp - results files and checkpoints: bit-exact round trips, tables, the life of a run, names in messages.
#include <cmath>

#include "error.hpp"
#include "record/provenance.hpp"
#include "record/record.hpp"
#include "record_testing.hpp"

using namespace ssm;

TEST_F(RecordTest, EveryTypeAndShapeComesBackBitForBit) {
  const std::vector<std::int64_t> longs{std::numeric_limits<std::int64_t>::min(), -1, 0, std::numeric_limits<std::int64_t>::max()};
  const std::vector<std::int32_t> ints{std::numeric_limits<std::int32_t>::min(), 0, std::numeric_limits<std::int32_t>::max()};
  const std::vector<std::string> words{"", "a", "Lorentz \xc3\xb6\xe2\x88\x82\xf0\x9f\x90\x8d", std::string(70000, 'x'), " padded  "};
  std::vector<float> block(2 * 3 * 5);
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = 0.1f * static_cast<float>(i);

  Tree t;
  t.put("/a/double", Array(awkward<double>()).units("s"));
  t.put("/a/float", Array(awkward<float>()));
  t.put("/a/long", Array(longs));
  t.put("/a/int", Array(ints));
  t.put("/a/words", Array(words));
  t.put("/a/b/c/block", Array({2, 3, 5}, block.data()));
  t.put("/scalar", Array({}, block.data() + 4));
  t.put("/empty/double", Array(std::vector<double>()));
  t.put("/empty/words", Array(std::vector<std::string>()));
  t.put("/empty/matrix", Array({0, 3}, block.data()));
  t.group("/only/a/group");
  t.set("/", "text", words[2]);
  t.set("/", "long text", words[3]);
  t.set("/", "nothing", "");
  t.set("/a", "flag", true);
  t.set("/a", "off", false);
  t.set("/a", "whole", 3);
  t.set("/a", "large", std::numeric_limits<std::int64_t>::max());
  t.set("/a", "real", 3.0);
  t.set("/a", "nan", std::nan(""));
  for (int i = 0; i < 300; ++i) t.set("/config", "key." + std::to_string(i), i);
  t.write(at("x.h5"));

  const Tree r = Tree::read(at("x.h5"));
  expect_same_bits(r.column<double>("/a/double"), awkward<double>());
  expect_same_bits(r.column<float>("/a/float"), awkward<float>());
  EXPECT_EQ(r.column<std::int64_t>("/a/long"), longs);
  EXPECT_EQ(r.column<std::int32_t>("/a/int"), ints);
  EXPECT_EQ(r.column<std::string>("/a/words"), words);
  EXPECT_EQ(r.column<float>("/a/b/c/block"), block);
  ASSERT_EQ(r.arrays().size(), t.arrays().size());
  for (const auto& [path, array] : t.arrays()) {
    EXPECT_EQ(r.at(path).shape, array.shape) << path;
    EXPECT_STREQ(r.at(path).type(), array.type()) << path;
    EXPECT_EQ(r.at(path).attributes, array.attributes) << path;
  }
  EXPECT_TRUE(std::isnan(r.get<double>("/a", "nan")));
  Tree without_nan = t, read_without_nan = r;
  without_nan.attributes("/a").erase("nan");
  read_without_nan.attributes("/a").erase("nan");
  EXPECT_EQ(read_without_nan.groups(), without_nan.groups());
  EXPECT_EQ(r.get<double>("/a", "whole"), 3.0);

  t.write(at("y.h5"));
  EXPECT_EQ(bytes_of(at("x.h5")), bytes_of(at("y.h5"))) << "the same tree gives the same bytes";
}

TEST_F(RecordTest, MisuseIsALogicError) {
  Tree t;
  t.append("/a/x", 1.0);
  EXPECT_THROW(t.group("/a/x"), std::logic_error);
  EXPECT_THROW(t.put("/a/x/y", Array()), std::logic_error);
  EXPECT_THROW(t.put("/a", Array()), std::logic_error);
  EXPECT_THROW(t.group("relative"), std::logic_error);
  EXPECT_THROW(t.append("/a/x", std::string("text")), std::logic_error);
  t.append("/a/n", std::int64_t(1));
  EXPECT_THROW(t.append("/a/n", 0.5), std::logic_error);
  Array wrong(std::vector<double>{1, 2});
  wrong.shape = {3};
  EXPECT_THROW(t.put("/a/z", wrong), std::logic_error);
  t.set("/", "nul", std::string("a\0b", 3));
  EXPECT_THROW(t.write(at("x.h5")), std::runtime_error);
  EXPECT_TRUE(fs::is_empty(dir));
}

TEST_F(RecordTest, RowsKeepColumnsEquallyLong) {
  Tree t;
  t.row("/e", {{"step", 1}, {"metric", 0.5, "1"}});
  t.row("/e", {{"step", 2}, {"metric", 0.6}, {"length=8", 0.7}, {"split", "test"}});
  t.row("/e", {{"metric", 0.8}});
  EXPECT_EQ(t.column<std::int64_t>("/e/step"), (std::vector<std::int64_t>{1, 2, -1}));
  EXPECT_EQ(t.column<std::string>("/e/split"), (std::vector<std::string>{"", "test", ""}));
  const auto& slice = t.column<double>("/e/length=8");
  ASSERT_EQ(slice.size(), 3u);
  EXPECT_TRUE(std::isnan(slice[0]) && slice[1] == 0.7 && std::isnan(slice[2]));
  EXPECT_EQ(t.numbers("/e/step"), (std::vector<double>{1, 2, -1}));
  EXPECT_EQ(t.get<std::string>("/e/metric", "units"), "1");
  EXPECT_THROW(t.row("/e", {{"step", 4}, {"step", 5}}), std::logic_error);
}

TEST_F(RecordTest, WhatAReaderMissesIsNamed) {
  Tree t;
  t.put("/train/loss", Array(std::vector<double>{1}));
  t.set("/meta", "git_sha", "abc");
  t.write(at("x.h5"));
  const Tree r = Tree::read(at("x.h5"));
  expect_contains(message<BadInput>([&] { r.at("/train/los"); }), {at("x.h5"), "'/train/los'", "'/train/loss'"});
  expect_contains(message<BadInput>([&] { r.get<std::string>("/meta", "git_sh"); }), {at("x.h5"), "'git_sh'", "'git_sha'", "'/meta'"});
  expect_contains(message<BadInput>([&] { r.get<double>("/meta", "git_sha"); }), {"'git_sha'", "string", "float64"});
  expect_contains(message<BadInput>([&] { r.get<double>("/nowhere", "x"); }), {"'/nowhere'"});
  expect_contains(message<BadInput>([&] { r.column<float>("/train/loss"); }), {"'/train/loss'", "float64", "float32"});
}

TEST_F(RecordTest, CheckpointComesBackBitForBit) {
  const Checkpoint c = small_checkpoint();
  c.save(at("c.ckpt.h5"));
  const Checkpoint r = Checkpoint::load(at("c.ckpt.h5"));
  EXPECT_EQ(r.attributes, c.attributes);
  ASSERT_EQ(r.arrays.size(), c.arrays.size());
  for (const auto& [name, array] : c.arrays) {
    EXPECT_EQ(r.arrays.at(name).shape, array.shape);
    EXPECT_EQ(r.arrays.at(name).attributes, array.attributes);
  }
  expect_same_bits(r.get<double>("moment/best", {11}), awkward<double>());
  float weight[6];
  r.copy("param/embed.weight", {2, 3}, weight);
  EXPECT_EQ(weight[5], 6);
  EXPECT_EQ(r.attribute<std::int64_t>("step"), 100);
  EXPECT_EQ(r.attribute<bool>("bidirectional"), false);

  const std::string file = at("c.ckpt.h5");
  expect_contains(message<BadInput>([&] {
                    r.get<float>("param/embed.weigh", {2, 3});
                  }),
                  {file, "'param/embed.weigh'", "'param/embed.weight'"});
  expect_contains(message<BadInput>([&] { r.get<float>("param/embed.weight", {3, 2}); }), {file, "(2, 3)", "(3, 2)"});
  expect_contains(message<BadInput>([&] { r.get<double>("param/embed.weight", {2, 3}); }), {file, "float32", "float64"});
  expect_contains(message<BadInput>([&] { r.attribute<double>("best_los"); }), {file, "'best_los'", "'best_loss'"});
}

TEST(Typed, NumbersAreNumbers) {
  EXPECT_EQ(typed("64"), Attribute(std::int64_t(64)));
  EXPECT_EQ(typed("-3"), Attribute(std::int64_t(-3)));
  EXPECT_EQ(typed("1e-05"), Attribute(1e-5));
  EXPECT_EQ(typed("0.001"), Attribute(0.001));
  EXPECT_EQ(typed("true"), Attribute(true));
  for (const char* text : {"", "zoh", "inf", "nan", "mamba*3,attention", "1,2", "patch:4", "-", "1e", "0x10", "99999999999999999999"})
    EXPECT_EQ(typed(text), Attribute(std::string(text)));
}

TEST_F(RecordTest, ARunFromStartToEnd) {
  const std::string path = at("sweep/ab12.h5");
  Record rec(path, "ab12");
  rec.config({{"s4d.d_state", "64"}, {"train.lr", "0.001"}, {"s4d.disc", "zoh"}, {"model.bidirectional", "false"}});
  rec.references({{"ceiling", "Bayes", 1.0, "by construction"}, {"published", "S4", 59.6, "a paper"}});
  const char* argv[] = {"ssmbench", "train", "--note", "it's here", ""};
  Runtime runtime;
  runtime.threads = 2;
  provenance(rec.tree(), 5, argv, runtime);
  rec.flush();
  EXPECT_EQ(Tree::read(path).get<std::string>("/status", "state"), "running");

  rec.check(1e-6, 2e-7, 1e-5, true);
  rec.train({10, 1000, 1280, 0.5, 2.3, 1.1, 1e-3});
  rec.train({20, 2000, 2560, 1.0, std::nan(""), 1.0, 2e-3});
  rec.eval({20, 2000, 1.0, "validation", 500, 2.2, 0.4, {{"length=500-1000", 0.5}, {"op=a/b", 0.25}}});
  rec.eval({20, 2000, 1.0, "test", 500, 2.1, 0.5, {}});
  rec.timing("train_step", {{0.1, 0.2}, "steady_clock", 3, 1.5});
  EXPECT_THROW(rec.end("done"), std::logic_error);
  rec.end("diverged", "loss is nan at step 20");

  const Tree r = Tree::read(path);
  EXPECT_EQ(r.get<std::string>("/", "schema"), "ssmbench/1");
  EXPECT_EQ(r.get<std::string>("/status", "state"), "diverged");
  EXPECT_EQ(r.get<std::int64_t>("/config", "s4d.d_state"), 64);
  EXPECT_EQ(r.get<bool>("/config", "model.bidirectional"), false);
  EXPECT_EQ(r.get<std::string>("/meta", "argv"), "ssmbench train --note 'it'\\''s here' ''");
  EXPECT_EQ(r.get<std::int64_t>("/meta", "threads"), 2);
  EXPECT_GT(r.get<std::int64_t>("/meta", "memory_bytes"), 0);
  EXPECT_EQ(r.column<double>("/task/references/value"), (std::vector<double>{1.0, 59.6}));
  EXPECT_EQ(r.column<std::int64_t>("/train/tokens_padded"), (std::vector<std::int64_t>{1280, 2560}));
  EXPECT_EQ(r.column<double>("/eval/op=a|b")[0], 0.25);
  EXPECT_TRUE(std::isnan(r.column<double>("/eval/length=500-1000")[1]));
  EXPECT_EQ(r.get<double>("/timing/train_step", "first_call"), 1.5);
  EXPECT_EQ(r.column<double>("/timing/train_step"), (std::vector<double>{0.1, 0.2}));

  // A resumed run continues the tables where the checkpoint left them.
  Checkpoint c;
  rec.history_to(c);
  c.save(at("ab12.ckpt.h5"));
  Record again(path, "ab12");
  again.train({99, 1, 1, 1, 1, 1, 1});
  again.eval({99, 1, 1, "test", 1, 1, 1, {{"gone=1", 1}}});
  again.tree().set("/train", "steps_planned", 30);
  again.history_from(Checkpoint::load(at("ab12.ckpt.h5")));
  again.train({30, 3000, 3840, 1.5, 2.0, 1.0, 3e-3});
  EXPECT_EQ(again.tree().get<std::int64_t>("/train", "steps_planned"), 30) << "attributes stay";
  EXPECT_EQ(again.tree().column<std::int64_t>("/train/step"), (std::vector<std::int64_t>{10, 20, 30}));
  EXPECT_EQ(again.tree().column<std::string>("/eval/split"), (std::vector<std::string>{"validation", "test"}));
  EXPECT_FALSE(again.tree().has("/eval/gone=1"));
}
