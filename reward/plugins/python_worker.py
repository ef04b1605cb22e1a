# A process of a Python reward plug-in: python3 -c THIS file.py [function].
# Reads one JSON list of samples a line, answers with one JSON list of scores a line.
import asyncio, importlib.util, inspect, json, math, os, sys, threading, time, traceback

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what the reward prints must not mix with the answers


def answer(value):
    answers.write(json.dumps(value, allow_nan=False) + "\n")
    answers.flush()


def end_with_parent(parent=os.getppid()):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def describe(error):
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def load(path, name):
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("moerl_user_reward", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if name:
        return getattr(module, name)
    if hasattr(module, "compute_score"):
        return module.compute_score
    found = [
        f
        for n, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and not n.startswith("_")
        and "completions" in inspect.signature(f).parameters
    ]
    if len(found) != 1:
        raise TypeError(
            f"{path} has no compute_score and {len(found)} functions with a parameter "
            "'completions', expected one; name the function as file.py:function"
        )
    return found[0]


def run(function, *args, **kwargs):
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.isawaitable(result) else result


def plain(value):
    """A number of NumPy, PyTorch and the like as a number of Python."""
    return value.item() if hasattr(value, "item") and callable(value.item) else value


def to_answer(result, what):
    result = plain(result)
    if result is None:
        return {"none": True}
    if isinstance(result, dict):
        if "score" not in result:
            raise TypeError(f"{what} returned a dict with {sorted(result)}, expected one with 'score'")
        score = to_answer(result["score"], what + "'s score")
        out = {}
        for key, value in result.items():
            value = plain(value)
            if isinstance(value, (bool, int, float)) and math.isfinite(value):
                out[str(key)] = value
            elif isinstance(value, str) and key in ("status", "extracted", "detail"):
                out[key] = value
        return score if isinstance(score, dict) else {**out, "score": score}
    if not isinstance(result, (bool, int, float)):
        raise TypeError(f"{what} returned {type(result).__name__} {result!r:.100}, expected a number")
    if not math.isfinite(result):
        raise ValueError(f"{what} returned {result}, expected a finite number")
    return float(result)


def score_verl(function, samples):
    """verl: compute_score(data_source, solution_str, ground_truth, extra_info=None)."""
    scores = []
    for s in samples:
        try:
            result = run(
                function,
                data_source=s["data_source"],
                solution_str=s["response"],
                ground_truth=s["ground_truth"],
                extra_info=s["extra_info"],
            )
            scores.append(to_answer(result, function.__name__))
        except Exception as error:
            scores.append({"error": describe(error)})
    return scores


def score_trl(function, samples):
    """TRL: f(prompts, completions, completion_ids, **columns of the data set)."""
    columns = {
        "prompts": [s["prompt"] for s in samples],
        "completions": [s["response"] for s in samples],
        "completion_ids": [s["token_ids"] for s in samples],
        "data_source": [s["data_source"] for s in samples],
    }
    for key in sorted({key for s in samples for key in s["extra_info"]}):
        columns.setdefault(key, [s["extra_info"].get(key) for s in samples])
    for key in ("ground_truth", "solution", "answer"):
        columns.setdefault(key, [s["ground_truth"] for s in samples])
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind == p.VAR_KEYWORD for p in parameters):
        columns = {p.name: columns[p.name] for p in parameters if p.name in columns}
    results = run(function, **columns)
    if not isinstance(results, (list, tuple)) and hasattr(results, "tolist"):
        results = results.tolist()
    if not isinstance(results, (list, tuple)):
        raise TypeError(f"{function.__name__} returned {type(results).__name__}, expected a list")
    if len(results) != len(samples):
        raise ValueError(
            f"{function.__name__} returned {len(results)} scores for {len(samples)} completions"
        )
    scores = []
    for result in results:
        try:
            scores.append(to_answer(result, function.__name__))
        except Exception as error:
            scores.append({"error": describe(error)})
    return scores


def main():
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        function = load(sys.argv[1], sys.argv[2])
        is_trl = "completions" in inspect.signature(function).parameters
    except BaseException as error:
        return answer({"error": describe(error)})
    answer({"ready": True})
    for line in sys.stdin:
        try:
            answer((score_trl if is_trl else score_verl)(function, json.loads(line)))
        except Exception as error:
            answer({"error": describe(error)})


main()
