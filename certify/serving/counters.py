"""What a server has done, as text that Prometheus reads."""

import threading
from bisect import bisect_left
from collections import Counter

#: Upper ends of the classes of the latency histogram, in seconds.
_ENDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Counters:
    """Numbers that only grow, and how many requests are in hand; any thread may change them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._answers: Counter[str] = Counter()
        self._latencies, self._seconds = [0] * (len(_ENDS) + 1), 0.0
        self._samples = self._rounds = 0

    def responded(self, path: str, status: int) -> None:
        """A response was sent; ``path`` is one of the server's own, so that strangers cannot make new ones."""
        with self._lock:
            self._requests[path, status] += 1

    def round_begun(self) -> None:
        """A round of forward passes began, which all images in hand share."""
        with self._lock:
            self._rounds += 1

    def answered(self, reason: str, samples: int, seconds: float) -> None:
        """An answer was found, so many seconds after its request."""
        with self._lock:
            self._answers[reason] += 1
            self._samples += samples
            self._seconds += seconds
            self._latencies[bisect_left(_ENDS, seconds)] += 1

    def text(self, in_hand: int) -> str:
        """All numbers, in the text format of Prometheus.

        Args:
            in_hand: Requests that wait for an answer now.
        """
        with self._lock:
            lines = [
                *_head("certify_requests_total", "counter", "Responses by path and status."),
                *(
                    f'certify_requests_total{{path="{path}",status="{status}"}} {count}'
                    for (path, status), count in sorted(self._requests.items())
                ),
                *_head("certify_answers_total", "counter", "Answers by why sampling stopped."),
                *(
                    f'certify_answers_total{{reason="{reason}"}} {count}'
                    for reason, count in sorted(self._answers.items())
                ),
                *_head("certify_answer_seconds", "histogram", "From a request to its answer."),
            ]
            total = 0
            for end, count in zip((*map(str, _ENDS), "+Inf"), self._latencies, strict=True):
                total += count
                lines.append(f'certify_answer_seconds_bucket{{le="{end}"}} {total}')
            lines += [f"certify_answer_seconds_sum {self._seconds}", f"certify_answer_seconds_count {total}"]
            for name, what, value in (
                ("certify_samples_total", "Noisy copies that were classified for answers.", self._samples),
                ("certify_rounds_total", "Rounds of forward passes, which images in hand share.", self._rounds),
            ):
                lines += [*_head(name, "counter", what), f"{name} {value}"]
            lines += [
                *_head("certify_in_hand", "gauge", "Requests that wait for an answer."),
                f"certify_in_hand {in_hand}",
            ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
