#pragma once
/* The binary interface of a reward in a shared library; C, so that any compiler and language that
   can make a library may be used. A library defines the two functions at the end.

   It runs in a process of its own: a crash costs the sample that caused it, nothing else. */
#include <stddef.h>
#include <stdint.h>

#define MOERL_REWARD_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* UTF-8, not terminated. Valid during the call. */
typedef struct moerl_text {
  const char* data;
  size_t size;
} moerl_text;

/* One completion and its row. */
typedef struct moerl_sample {
  moerl_text response;
  moerl_text ground_truth;
  moerl_text extra_info_json; /* a JSON object */
  moerl_text data_source;
  moerl_text prompt;
  moerl_text options_json;  /* a JSON object of texts: the options of the recipe */
  const int32_t* token_ids; /* of the completion */
  size_t num_token_ids;
  int64_t num_tokens; /* -1: not known */
  int32_t is_correct; /* 1, 0; -1: not known */
} moerl_sample;

/* The values of VerdictStatus in reward.proto. */
enum moerl_status {
  MOERL_CORRECT = 1,
  MOERL_INCORRECT = 2,
  MOERL_NO_ANSWER = 3,
  MOERL_UNPARSABLE = 4,
  MOERL_LIMIT = 5,
  MOERL_GOLD_ERROR = 7,    /* the row cannot be used: the sample is left out */
  MOERL_INTERNAL_ERROR = 8 /* the reward failed: the sample is left out */
};

typedef struct moerl_verdict {
  double score;         /* must be set, to a finite number */
  int32_t status;       /* must be set, to a moerl_status */
  char extracted[1024]; /* terminated text; may be left empty */
  char detail[1024];    /* terminated text, for people; may be left empty */
} moerl_verdict;

/* Returns MOERL_REWARD_ABI_VERSION. */
int32_t moerl_reward_abi_version(void);

/* Judges `count` samples into `verdicts`, which has room for as many. Returns 0, or another number
   if the batch could not be judged. Called from one thread at a time. */
int32_t moerl_reward_score(const moerl_sample* samples, size_t count, moerl_verdict* verdicts);

#ifdef __cplusplus
}
#endif
