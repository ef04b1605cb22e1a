#include "experiments/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "common/check.h"
#include "common/file.h"
#include "experiments/line_chart.h"

namespace moerl {
namespace {

constexpr int64_t kShownSamples = 6;

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .9rem; border-bottom: 1px solid var(--line); text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: .8rem; }
svg { width: 100%; border: 1px solid var(--line); border-radius: 6px; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; } svg .title { font-size: 12px; font-weight: 600; }
svg .grid { stroke: var(--line); } svg .tick { font-size: 10px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; margin-bottom: 1rem; }
.sample { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem; min-width: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 12.5px/1.45 ui-monospace, monospace; margin: .3rem 0; }
.correct { color: #059669; } .wrong { color: #dc2626; } .muted { opacity: .65; font-size: .85rem; }
.prompt { background: var(--soft); border-radius: 6px; padding: .4rem .8rem; }
)";

struct Curve {
  const char* metric;
  const char* title;
};
constexpr Curve kCurves[] = {
    {"critic/rewards/mean", "reward"},
    {"critic/acc/mean", "accuracy of training samples"},
    {"response_length/mean", "response length (tokens)"},
    {"response_length/clip_ratio", "responses cut at the limit"},
    {"actor/entropy", "entropy"},
    {"actor/grad_norm", "gradient norm"},
    {"actor/pg_clipfrac", "clipped tokens"},
    {"actor/kl_loss", "KL to the reference"},
    {"frac_reward_zero_std", "groups without variance"},
    {"training/rollout_probs_diff_max", "largest |Δp|"},
    {"moe/max_vio", "expert imbalance (MaxVio)"},
    {"perf/throughput", "tokens per second"},
    {"train/loss", "SFT loss"},
};

ChartSeries series_of(const std::vector<StepMetrics>& history, const std::string& metric) {
  ChartSeries series{metric, {}};
  for (const StepMetrics& step : history) {
    const auto found = step.values.find(metric);
    if (found != step.values.end() && std::isfinite(found->second))
      series.points.emplace_back(static_cast<double>(step.step), found->second);
  }
  return series;
}

/// Names of val-core/<source>/acc/mean@k that occur.
std::set<std::string> accuracy_metrics(const std::vector<StepMetrics>& history) {
  std::set<std::string> names;
  for (const StepMetrics& step : history)
    for (const auto& [name, value] : step.values)
      if (name.starts_with("val-core/") && name.find("/acc/mean@") != std::string::npos)
        names.insert(name);
  return names;
}

struct ResultRow {
  std::string when;
  std::map<std::string, double> accuracy;
};

/// Accuracies before training and at the end of each stage.
std::vector<ResultRow> result_rows(const Recipe& recipe, const std::vector<StepMetrics>& history) {
  std::vector<ResultRow> rows;
  const auto add = [&](const std::string& when, const std::string& stage) {
    ResultRow row{when, {}};
    for (const StepMetrics& step : history) {
      if (step.stage != stage) continue;
      for (const std::string& metric : accuracy_metrics(history))
        if (const auto found = step.values.find(metric); found != step.values.end())
          row.accuracy[metric] = found->second;
    }
    if (!row.accuracy.empty()) rows.push_back(std::move(row));
  };
  add("before training", "initial");
  for (const StageConfig& stage : recipe.stages)
    add(concat("after ", stage.name, " (", stage.type, ")"), stage.name);
  return rows;
}

std::string percent(double x) {
  char text[16];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * x);
  return text;
}

std::string results_html(const Recipe& recipe, const std::vector<StepMetrics>& history) {
  const std::set<std::string> metrics = accuracy_metrics(history);
  std::string html = "<table><tr><th></th>";
  for (const std::string& metric : metrics) html += "<th>" + escape_html(metric) + "</th>";
  html += "</tr>";
  for (const ResultRow& row : result_rows(recipe, history)) {
    html += "<tr><td>" + escape_html(row.when) + "</td>";
    for (const std::string& metric : metrics) {
      const auto found = row.accuracy.find(metric);
      html +=
          "<td class='n'>" + (found == row.accuracy.end() ? "" : percent(found->second)) + "</td>";
    }
    html += "</tr>";
  }
  return html + "</table>";
}

std::string sample_html(const SampleRecord& r) {
  const bool correct = r.status == "correct";
  return concat("<div class='sample'><span class='", correct ? "correct" : "wrong", "'>",
                escape_html(r.status), "</span> <span class='muted'>reward ", r.reward, ", ",
                r.token_ids.size(), " tokens</span><pre>", escape_html(r.response), "</pre></div>");
}

/// The same held-out problems, answered before and after: the first evaluation that a stage of the
/// run has against the last.
std::string samples_html(const Recipe& recipe, SampleStore& store) {
  const StageConfig& last = recipe.stages.back();
  const std::string first_stage =
      recipe.stages.size() > 1 ? recipe.stages[recipe.stages.size() - 2].name : "initial";
  const std::vector<SampleRecord> before = store.read(first_stage, "val", true, 400);
  const std::vector<SampleRecord> after = store.read(last.name, "val", true, 400);
  std::string html;
  int64_t shown = 0;
  for (const SampleRecord& a : after) {
    if (a.sample_index != 0 || shown == kShownSamples) continue;
    const auto b = std::find_if(before.begin(), before.end(), [&](const SampleRecord& r) {
      return r.prompt_id == a.prompt_id && r.sample_index == 0;
    });
    html += "<pre class='prompt'>" + escape_html(a.prompt) + "</pre><div class='pair'>";
    html += b == before.end() ? "<div class='sample muted'>no sample</div>" : sample_html(*b);
    html += sample_html(a) + "</div>";
    ++shown;
  }
  if (html.empty()) return "<p class='muted'>No samples were stored.</p>";
  return concat("<p class='muted'>Held-out problems; left: after ", escape_html(first_stage),
                ", right: after ", escape_html(last.name), ".</p>", html);
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string results_table(const Recipe& recipe, const std::vector<StepMetrics>& history) {
  std::string text = "held-out accuracy\n";
  for (const ResultRow& row : result_rows(recipe, history)) {
    for (const auto& [metric, value] : row.accuracy) {
      char line[200];
      std::snprintf(line, sizeof line, "  %-36s %8s   %s\n", row.when.c_str(),
                    percent(value).c_str(), metric.c_str());
      text += line;
    }
  }
  return text;
}

void write_report(const std::filesystem::path& run_directory, const Recipe& recipe,
                  const std::vector<StepMetrics>& history, SampleStore* samples) {
  std::string html = concat("<!doctype html><html lang='en'><meta charset='utf-8'><title>",
                            escape_html(recipe.name),
                            "</title><meta name='viewport' content='width=device-width'><style>",
                            kStyle, "</style><h1>", escape_html(recipe.name), "</h1>");
  html += "<h2>Held-out accuracy</h2>" + results_html(recipe, history);
  html +=
      "<h2>Curves</h2><p class='muted'>Over training steps of all stages.</p><div class='charts'>";
  std::vector<ChartSeries> accuracy;
  for (const std::string& metric : accuracy_metrics(history))
    accuracy.push_back(series_of(history, metric));
  if (!accuracy.empty()) html += line_chart("held-out accuracy", accuracy);
  for (const Curve& curve : kCurves) {
    const ChartSeries series = series_of(history, curve.metric);
    if (!series.points.empty())
      html += line_chart(concat(curve.title, "  (", curve.metric, ")"), {series});
  }
  html += "</div><h2>Samples</h2>";
  html += samples == nullptr ? "<p class='muted'>No samples were stored.</p>"
                             : samples_html(recipe, *samples);
  html += "<h2>Recipe</h2><pre>" + escape_html(recipe.to_yaml()) + "</pre></html>\n";
  write_file_atomic(run_directory / "report.html", html);
}

}  // namespace moerl
