#include "rollout/engine.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "common/error.h"
#include "common/rng.h"
#include "kernels/sampling/sample_token.h"
#include "rollout/decode_graphs.h"
#include "rollout/scheduler.h"

namespace moerl {
namespace {

/// A request and everything that it owns.
struct Job {
  uint64_t id = 0;
  GenerateRequest request;
  GenerateCallbacks callbacks;
  std::vector<PromptGroup> groups;  // never resized: the scheduler points into it
  int64_t unfinished = 0;           // sequences
  kernels::SampleParams params;
};

std::unique_ptr<Job> make_job(GenerateRequest request, GenerateCallbacks callbacks,
                              int64_t max_position_embeddings) {
  auto job = std::make_unique<Job>();
  const SamplingParams& sampling = request.sampling;
  job->params = {.temperature = static_cast<float>(sampling.temperature),
                 .top_k = static_cast<int32_t>(sampling.top_k),
                 .top_p = static_cast<float>(sampling.top_p),
                 .min_p = static_cast<float>(sampling.min_p)};
  job->unfinished = request.num_sequences();
  job->groups = std::vector<PromptGroup>(request.prompts.size());
  for (size_t i = 0; i < job->groups.size(); ++i) {
    PromptGroup& group = job->groups[i];
    group.prompt_id = request.prompts[i].prompt_id;
    group.prompt = std::move(request.prompts[i].token_ids);
    group.max_positions =
        std::min(group.prompt_length() + sampling.max_tokens, max_position_embeddings);
    group.owner = job.get();
    group.sequences = std::vector<Sequence>(static_cast<size_t>(request.group_size));
    for (size_t s = 0; s < group.sequences.size(); ++s) {
      group.sequences[s].group = &group;
      group.sequences[s].sample_index = request.first_sample_index + static_cast<int64_t>(s);
    }
  }
  job->request = std::move(request);
  job->callbacks = std::move(callbacks);
  return job;
}

SchedulerConfig scheduler_config(const Transformer& model, const EngineConfig& config) {
  const int64_t block_bytes = KvCache::block_bytes(model.config(), model.dtype());
  const int64_t num_blocks =
      config.num_kv_blocks > 0 ? config.num_kv_blocks : config.kv_cache_bytes / block_bytes;
  check(num_blocks >= 1, "Engine: kv_cache_bytes is ", config.kv_cache_bytes,
        ", expected at least one block of ", block_bytes, " bytes");
  check(config.max_queue >= 1, "Engine: max_queue is ", config.max_queue, ", expected >= 1");
  return {num_blocks, config.max_num_seqs, config.max_batched_tokens};
}

/// Whether somebody wants to look at the logits once the tokens are drawn; the next step overwrites
/// them.
bool wants_logits(const StepPlan& plan) {
  return std::any_of(plan.samples.begin(), plan.samples.end(), [](const ScheduledSample& s) {
    return s.sequence &&
           static_cast<const Job*>(s.sequence->group->owner)->request.num_top_log_probs > 0;
  });
}

}  // namespace

struct Engine::Impl {
  Impl(const Transformer& model, const EngineConfig& config, ExecContext& ctx)
      : model(model),
        config(config),
        ctx(ctx),
        scheduler(scheduler_config(model, config)),
        cache(model.config(), model.dtype(), scheduler.blocks().num_blocks(), model.device()) {
    status.kv_blocks_total = status.kv_blocks_free = cache.num_blocks();
    // Ranks that share the experts meet within a forward.
    if (model.device() == Device::kCuda && model.experts().size() == 1 && !config.enforce_eager)
      graphs.emplace(model, cache, ctx, config.max_num_seqs);
  }

  // Called by submit() and cancel().
  void check_accepts(const GenerateRequest& request) const;

  // Called by the stepping thread.
  bool take_inbox();
  void start_job(std::unique_ptr<Job> job);
  void end_job(Job& job, std::exception_ptr error);
  void end_all_jobs(std::exception_ptr error);
  void run_step();
  void set_batch(const StepPlan& plan);
  void set_params(const StepPlan& plan);
  void keep_last_hidden(const StepPlan& plan, const Tensor& hidden);
  Tensor sampled_logits(const StepPlan& plan, const Tensor& hidden);
  /// Draws the plan's samples; returns their logits.
  Tensor draw(const StepPlan& plan);
  void launch(const StepPlan& plan);  // by a graph
  /// Of a plan that was launched: fetches what was drawn, once the next step is on its way if that
  /// can be known already.
  void finish_launched();
  /// Forgets a step on its way that could serve nobody, if nobody is left.
  void drop_launched();
  void append_tokens(const StepPlan& plan, const Tensor& logits);
  void append_token(Sequence& sequence, int32_t token, float log_prob,
                    std::span<const TokenLogProb> top);
  void deliver(Sequence& sequence, FinishReason reason);
  void publish();

  const Transformer& model;
  const EngineConfig config;
  ExecContext& ctx;

  // Owned by the stepping thread.
  Scheduler scheduler;
  KvCache cache;
  std::optional<DecodeGraphs> graphs;
  const StepPlan* launched = nullptr;  // that is drawn by a graph, and not fetched
  std::map<uint64_t, std::unique_ptr<Job>> jobs;
  int64_t delivered = 0;  // sequences since the last publish()
  ForwardBatch batch;
  std::vector<int32_t> rows, tokens;
  std::vector<float> log_probs;
  std::vector<kernels::SampleParams> params;

  mutable std::mutex mutex;
  std::condition_variable wake;  // of the loop
  std::condition_variable calm;  // of with_exclusive_weights
  // Guarded by mutex.
  std::vector<std::unique_ptr<Job>> inbox;
  std::vector<uint64_t> cancelled;
  EngineStatus status;
  int64_t unfinished = 0;       // sequences, inbox included
  int64_t active_jobs = 0;      // taken from the inbox and not ended
  int64_t exclusive_calls = 0;  // waiting or running: the inbox is held back
  bool exclusive = false;       // one is running
  bool threaded = false, stopping = false;
  uint64_t next_id = 1;
  std::thread loop;
};

void Engine::Impl::check_accepts(const GenerateRequest& request) const {
  const int64_t n = request.num_sequences();
  check(n <= config.max_queue, "the request has ", n,
        " sequences, expected at most max_queue = ", config.max_queue);
  if (stopping) throw Cancelled("the engine has stopped");
  if (status.policy_version == kNoWeights)
    throw FailedPrecondition("the worker has not been sent weights yet");
  if (request.policy_version >= 0 && request.policy_version != status.policy_version)
    throw FailedPrecondition(concat("policy_version is ", request.policy_version,
                                    ", the worker holds version ", status.policy_version));
  if (unfinished + n > config.max_queue)
    throw ResourceExhausted(concat("the queue holds ", unfinished,
                                   " sequences and has no room for ", n, " more; max_queue is ",
                                   config.max_queue));
}

bool Engine::Impl::take_inbox() {
  drop_launched();
  std::vector<std::unique_ptr<Job>> arrived;
  std::vector<uint64_t> gone;
  bool stop;
  {
    std::lock_guard lock(mutex);
    stop = stopping;
    gone.swap(cancelled);
    if (exclusive_calls == 0 || stop) {
      arrived.swap(inbox);
    } else {  // held back, but they can be cancelled
      for (std::unique_ptr<Job>& job : inbox)
        if (std::find(gone.begin(), gone.end(), job->id) != gone.end())
          arrived.push_back(std::move(job));
      std::erase(inbox, nullptr);
    }
    active_jobs += static_cast<int64_t>(arrived.size());
  }
  for (std::unique_ptr<Job>& job : arrived) start_job(std::move(job));
  if (stop) end_all_jobs(std::make_exception_ptr(Cancelled("the engine has stopped")));
  for (uint64_t id : gone)
    if (const auto it = jobs.find(id); it != jobs.end())
      end_job(*it->second, std::make_exception_ptr(Cancelled("the request was cancelled")));
  publish();
  return !scheduler.idle();
}

void Engine::Impl::start_job(std::unique_ptr<Job> owned) {
  Job& job = *owned;
  jobs.emplace(job.id, std::move(owned));
  for (PromptGroup& group : job.groups) scheduler.add(group);
  // Stable while a request is active.
  const int64_t wanted = job.request.policy_version, held = status.policy_version;
  if (wanted >= 0 && wanted != held)
    end_job(job, std::make_exception_ptr(FailedPrecondition(
                     concat("policy_version is ", wanted, ", the worker holds version ", held,
                            " since the request was queued"))));
}

void Engine::Impl::end_job(Job& job, std::exception_ptr error) {
  for (PromptGroup& group : job.groups) scheduler.remove(group);
  delivered += job.unfinished;
  const auto node = jobs.extract(job.id);
  // Whoever hears of the end finds the room that it left, and may change the weights.
  publish();
  {
    std::lock_guard lock(mutex);
    if (--active_jobs == 0) calm.notify_all();
  }
  if (job.callbacks.on_done) job.callbacks.on_done(error);
}

void Engine::Impl::end_all_jobs(std::exception_ptr error) {
  while (!jobs.empty()) end_job(*jobs.begin()->second, error);
}

void Engine::Impl::publish() {
  std::lock_guard lock(mutex);
  unfinished -= delivered;
  delivered = 0;
  status.running_sequences = static_cast<int64_t>(scheduler.running().size());
  status.queued_sequences = unfinished - status.running_sequences;
  status.kv_blocks_free = scheduler.blocks().num_free();
  status.num_preemptions = scheduler.num_preemptions();
  if (graphs) {
    status.num_graph_steps = graphs->num_steps();
    status.num_steps_ahead = graphs->num_steps_ahead();
  }
}

void Engine::Impl::run_step() {
  if (launched == nullptr) {
    const StepPlan& plan = scheduler.schedule();
    for (const BlockCopy& copy : plan.copies) cache.copy_block(ctx, copy.from, copy.to);
    if (!graphs || !plan.is_decode()) return append_tokens(plan, draw(plan));
    launch(plan);
    launched = &plan;
  }
  finish_launched();
}

void Engine::Impl::launch(const StepPlan& plan) {
  set_batch(plan);
  set_params(plan);
  graphs->launch(batch, params, plan.sources);
  scheduler.commit();
}

void Engine::Impl::finish_launched() {
  const StepPlan& plan = *launched;
  const StepPlan* next = wants_logits(plan) ? nullptr : scheduler.schedule_ahead();
  if (next != nullptr) launch(*next);
  launched = next;
  tokens.resize(plan.samples.size());
  log_probs.resize(plan.samples.size());
  graphs->fetch(tokens, log_probs);
  append_tokens(plan, graphs->logits());
}

void Engine::Impl::drop_launched() {
  if (launched == nullptr || !scheduler.idle()) return;
  graphs->drop();
  launched = nullptr;
}

Tensor Engine::Impl::draw(const StepPlan& plan) {
  set_batch(plan);
  set_params(plan);
  tokens.resize(params.size());
  log_probs.resize(params.size());
  Tensor hidden;
  // Other ranks may have rows for the experts here.
  if (plan.num_rows > 0 || model.experts().size() > 1) hidden = model.forward(ctx, batch, cache);
  scheduler.commit();
  keep_last_hidden(plan, hidden);
  if (plan.samples.empty()) return {};
  Tensor logits = sampled_logits(plan, hidden);
  kernels::sample_token(ctx, logits, model.config().sampled_vocab_size(), params, tokens,
                        log_probs);
  return logits;
}

void Engine::Impl::set_batch(const StepPlan& plan) {
  batch.token_ids.clear();
  batch.positions.clear();
  batch.segments.clear();
  for (const ScheduledRows& run : plan.rows) {
    const std::vector<int32_t>& table =
        run.sequence ? run.sequence->block_table : run.group->block_table;
    batch.segments.push_back({batch.num_tokens(), run.num_rows, run.start, table});
    for (int64_t p = run.start; p < run.start + run.num_rows; ++p) {
      const bool known = plan.sources.empty();
      batch.token_ids.push_back(!known         ? 0
                                : run.sequence ? run.sequence->token(p)
                                               : run.group->prompt[static_cast<size_t>(p)]);
      batch.positions.push_back(static_cast<int32_t>(p));
    }
  }
}

void Engine::Impl::keep_last_hidden(const StepPlan& plan, const Tensor& hidden) {
  int64_t end = 0;
  for (const ScheduledRows& run : plan.rows) {
    end += run.num_rows;
    if (!run.sequence && run.start + run.num_rows == run.group->prompt_length())
      run.group->last_hidden = hidden.rows(end - 1, end).clone();
  }
}

Tensor Engine::Impl::sampled_logits(const StepPlan& plan, const Tensor& hidden) {
  rows.clear();
  for (const ScheduledSample& s : plan.samples)
    if (s.row >= 0) rows.push_back(static_cast<int32_t>(s.row));
  if (rows.size() == plan.samples.size()) return model.logits(ctx, hidden, rows);

  // First tokens are drawn from their group's last hidden state: put all rows into one tensor.
  const auto n = static_cast<int64_t>(plan.samples.size());
  Tensor gathered = ctx.empty({n, model.config().hidden_size}, model.dtype());
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    const auto& [sequence, row] = plan.samples[i];
    check_internal(row >= 0 || sequence->group->last_hidden.defined(),
                   "Engine: a sequence starts before its prompt was computed");
    const auto to = static_cast<int64_t>(i);
    gathered.rows(to, to + 1)
        .copy_from(row >= 0 ? hidden.rows(row, row + 1) : sequence->group->last_hidden);
  }
  rows.resize(plan.samples.size());
  std::iota(rows.begin(), rows.end(), 0);
  return model.logits(ctx, gathered, rows);
}

void Engine::Impl::set_params(const StepPlan& plan) {
  params.clear();
  const int64_t ahead = plan.sources.empty() ? 0 : 1;  // tokens that length() does not count yet
  for (const ScheduledSample& s : plan.samples) {
    const Job& job = *static_cast<const Job*>(s.sequence->group->owner);
    params.push_back(job.params);
    params.back().uniform = {job.request.seed, s.sequence->group->prompt_id,
                             static_cast<uint32_t>(s.sequence->sample_index),
                             static_cast<uint32_t>(s.sequence->length() + ahead)};
  }
}

void Engine::Impl::append_tokens(const StepPlan& plan, const Tensor& logits) {
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    if (plan.samples[i].sequence == nullptr) continue;
    Sequence& sequence = *plan.samples[i].sequence;
    const Job& job = *static_cast<const Job*>(sequence.group->owner);
    std::vector<TokenLogProb> top;
    if (const int64_t k = job.request.num_top_log_probs; k > 0) {
      const auto row = static_cast<int64_t>(i);
      const float temperature = job.params.temperature > 0 ? job.params.temperature : 1;
      top = top_log_probs(ctx, logits.rows(row, row + 1), model.config().sampled_vocab_size(),
                          temperature, k)[0];
    }
    append_token(sequence, tokens[i], log_probs[i], top);
  }
}

void Engine::Impl::append_token(Sequence& sequence, int32_t token, float log_prob,
                                std::span<const TokenLogProb> top) {
  const PromptGroup& group = *sequence.group;
  sequence.tokens.push_back(token);
  sequence.log_probs.push_back(log_prob);
  const Job& job = *static_cast<const Job*>(group.owner);
  const bool goes_on =
      !job.callbacks.on_token || job.callbacks.on_token({.prompt_id = group.prompt_id,
                                                         .sample_index = sequence.sample_index,
                                                         .token = token,
                                                         .log_prob = log_prob,
                                                         .top = top});
  const std::vector<int32_t>& stops = job.request.sampling.stop_token_ids;
  if (!goes_on || std::find(stops.begin(), stops.end(), token) != stops.end())
    deliver(sequence, FinishReason::kStop);
  else if (sequence.length() == group.max_positions)
    deliver(sequence, FinishReason::kLength);
}

void Engine::Impl::deliver(Sequence& sequence, FinishReason reason) {
  Job& job = *static_cast<Job*>(sequence.group->owner);
  scheduler.finish(sequence);
  ++delivered;
  --job.unfinished;
  if (job.callbacks.on_completion)
    job.callbacks.on_completion({.prompt_id = sequence.group->prompt_id,
                                 .sample_index = sequence.sample_index,
                                 .token_ids = std::move(sequence.tokens),
                                 .log_probs = std::move(sequence.log_probs),
                                 .finish_reason = reason,
                                 .policy_version = status.policy_version});
  if (job.unfinished == 0) end_job(job, nullptr);
}

Engine::Engine(const Transformer& model, const EngineConfig& config, ExecContext& ctx,
               int64_t policy_version)
    : impl_(std::make_unique<Impl>(model, config, ctx)) {
  set_policy_version(policy_version);
}

Engine::~Engine() { stop(); }

std::string Engine::numeric_family(const Transformer& model) {
  return model.numeric_family() + "-" + model.config().attention_form();
}

const Transformer& Engine::model() const { return impl_->model; }

uint64_t Engine::submit(GenerateRequest request, GenerateCallbacks callbacks) {
  const ModelConfig& config = impl_->model.config();
  validate(request, config);
  std::unique_ptr<Job> job =
      make_job(std::move(request), std::move(callbacks), config.max_position_embeddings);
  for (const PromptGroup& group : job->groups) impl_->scheduler.check_fits(group.max_positions);

  std::lock_guard lock(impl_->mutex);
  impl_->check_accepts(job->request);
  impl_->unfinished += job->unfinished;
  impl_->status.queued_sequences += job->unfinished;
  job->id = impl_->next_id++;
  const uint64_t id = job->id;
  impl_->inbox.push_back(std::move(job));
  impl_->wake.notify_one();
  return id;
}

void Engine::cancel(uint64_t id) {
  std::lock_guard lock(impl_->mutex);
  impl_->cancelled.push_back(id);
  impl_->wake.notify_one();
}

bool Engine::step() {
  if (!impl_->take_inbox()) return false;
  try {
    impl_->run_step();
  } catch (...) {
    impl_->end_all_jobs(std::current_exception());
  }
  impl_->publish();
  return true;
}

bool Engine::has_work() { return impl_->take_inbox(); }

void Engine::step_with_others() {
  try {
    impl_->run_step();
  } catch (...) {
    impl_->end_all_jobs(std::current_exception());
    throw;
  }
  impl_->publish();
}

void Engine::start() {
  std::lock_guard lock(impl_->mutex);
  check_internal(!impl_->threaded && !impl_->stopping, "Engine: started twice or after stop");
  impl_->threaded = true;
  impl_->loop = std::thread([this] {
    Impl& impl = *impl_;
    while (true) {
      if (step()) continue;
      std::unique_lock lock(impl.mutex);
      if (impl.stopping) return;
      impl.wake.wait(lock, [&] {
        return impl.stopping || !impl.cancelled.empty() ||
               (impl.exclusive_calls == 0 && !impl.inbox.empty());
      });
    }
  });
}

void Engine::stop() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    impl_->wake.notify_one();
  }
  if (impl_->loop.joinable()) impl_->loop.join();
  impl_->take_inbox();  // what arrived after the last step, or without a thread
}

void Engine::with_exclusive_weights(const std::function<void()>& change) {
  Impl& impl = *impl_;
  std::unique_lock lock(impl.mutex);
  ++impl.exclusive_calls;
  if (!impl.threaded) {
    lock.unlock();
    while (step()) {
    }
    lock.lock();
  }
  impl.calm.wait(lock, [&] { return impl.active_jobs == 0 && !impl.exclusive; });
  impl.exclusive = true;
  lock.unlock();
  const auto end = [&] {
    lock.lock();
    impl.exclusive = false;
    --impl.exclusive_calls;
    impl.calm.notify_all();
    impl.wake.notify_one();
  };
  try {
    change();
  } catch (...) {
    end();
    throw;
  }
  end();
}

void Engine::set_policy_version(int64_t version, uint64_t weights_hash) {
  check(version >= kNoWeights, "Engine: policy_version is ", version, ", expected >= ", kNoWeights);
  std::lock_guard lock(impl_->mutex);
  if (impl_->active_jobs > 0)
    throw FailedPrecondition(concat("policy version ", version, ": ", impl_->active_jobs,
                                    " requests still run on version ",
                                    impl_->status.policy_version));
  impl_->status.policy_version = version;
  impl_->status.weights_hash = weights_hash;
}

EngineStatus Engine::status() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->status;
}

void visit_fields(FieldVisitor& v, EngineConfig& c) {
  v.field("kv_cache_bytes", c.kv_cache_bytes, kNotNegative);
  v.field("num_kv_blocks", c.num_kv_blocks, kNotNegative);
  v.field("max_num_seqs", c.max_num_seqs, kAtLeastOne);
  v.field("max_batched_tokens", c.max_batched_tokens, kAtLeastOne);
  v.field("max_queue", c.max_queue, kAtLeastOne);
  v.field("enforce_eager", c.enforce_eager);
  v.require(c.max_batched_tokens >= c.max_num_seqs,
            "max_batched_tokens must be at least max_num_seqs");
}

}  // namespace moerl
