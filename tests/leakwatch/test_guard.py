"""The guard: every leaking form at its line, no harmless one, and nothing changed in what it watches."""

from __future__ import annotations

import gc
import linecache
import pickle
import threading
import warnings
import weakref

import pytest
import torch

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError
from fingerpost.leakwatch import LeakError, LeakGuard, LeakWarning, _graph, _guard, census, corpus
from fingerpost.leakwatch.corpus import FORMS, HARMLESS, LEAKING, Bench

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def named(forms):
    return [pytest.param(form, id=form.name) for form in forms]


def twice(guard, step, bench):
    with guard:
        step(bench)
        step(bench)


def test_the_corpus_has_what_the_contract_asks_for():
    assert len(LEAKING) == 10
    assert len(HARMLESS) >= 18
    assert len(FORMS) == len(LEAKING) + len(HARMLESS)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", named(LEAKING))
def test_a_leaking_form_is_reported_once_at_its_line(form, device):
    bench = Bench(32, 8, device)
    with LeakGuard("record") as guard:
        for _ in range(3):
            form.step(bench)
    [leak] = guard.report.leaks
    assert (leak.file, leak.line, leak.count) == (corpus.__file__, form.line(), 3)
    assert leak.source.endswith("# leaks")
    assert leak.ring[-1].removeprefix("a view of ") == leak.ring[0]
    assert len(leak.ring) >= 3
    assert leak.nbytes >= bench.nbytes


@pytest.mark.parametrize("form", named(LEAKING))
def test_the_suggested_line_is_the_cure_and_has_the_same_values(form):
    bench = Bench(32, 8, dtype=torch.float64)
    with LeakGuard("record") as guard:
        leaked = form.step(bench)
        assert guard.check().leaks
    cure = guard.report.leaks[0].cure
    written = linecache.getline(corpus.__file__, form.line("cure")).strip().removesuffix("  # cure")
    if guard.report.leaks[0].kind == "in-place":
        bare = cure.removesuffix(" (the tensor behind the view then stays as it was)")
        assert bare.replace(" ** ", "**") == written.replace(" ** ", "**")
    else:
        assert cure.startswith("ctx.save_for_backward")
        assert "save_for_backward" in written
    cured = form.cure(bench)
    assert torch.equal(cured, leaked)
    with LeakGuard("record") as guard:
        form.cure(bench)
    assert guard.report.leaks == []


@pytest.mark.parametrize("form", named(LEAKING))
def test_the_cures_gradient_is_right_by_finite_differences(form):
    bench = Bench(8, 4, dtype=torch.float64)
    torch.autograd.gradcheck(lambda weight: _with_weight(form.cure, bench, weight), [bench.weight])


def _with_weight(step, bench, weight):
    bench.weight = weight
    return step(bench)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", named(HARMLESS))
def test_a_harmless_form_is_not_reported(form, device):
    bench = Bench(32, 8, device)
    with LeakGuard("record") as guard:
        for _ in range(3):
            form.step(bench)
    assert guard.report.leaks == []
    assert guard.report.notes == []


@pytest.mark.parametrize("form", named(HARMLESS))
def test_values_gradients_and_random_draws_are_the_same_to_the_bit_under_the_guard(form):
    def outcome(guard):
        bench = Bench(16, 8, dtype=torch.float64)
        torch.manual_seed(0)
        with guard:
            end = form.step(bench)
            if isinstance(end, torch.Tensor) and end.requires_grad:
                try:
                    end.sum().backward()
                except RuntimeError as error:  # forms that are no valid programs fail in both
                    end = torch.tensor(float(len(str(error))))
        return [end, bench.weight.grad, torch.random.get_rng_state()]

    with torch.random.fork_rng(devices=[]):
        bare, guarded = outcome(torch.enable_grad()), outcome(LeakGuard("record"))
    for one, other in zip(bare, guarded):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_warn_names_the_line_once_and_raise_stops_at_it():
    bench = Bench()
    with pytest.warns(LeakWarning, match="x = x / torch.norm") as caught:
        twice(LeakGuard(), corpus.norm, bench)
    assert [(w.filename, w.lineno) for w in caught] == [(corpus.__file__, FORMS["x /= norm(x)"].line())]
    with (
        pytest.raises(LeakError, match=r"DivBackward0 → LinalgVectorNormBackward0 → x") as stop,
        LeakGuard("raise"),
    ):
        corpus.norm(bench)
    assert stop.traceback[-1].name == "_report"
    assert isinstance(stop.value, (FingerpostError, RuntimeError))
    assert pickle.loads(pickle.dumps(stop.value)).leak == stop.value.leak


def test_an_error_of_the_program_is_not_hidden_by_the_guards_own():
    @LeakGuard("raise")
    def program():
        keep = corpus.on_ctx(Bench())
        return 1 / int(keep.isnan().any())

    with pytest.raises(ZeroDivisionError):
        program()


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(InvalidValueError, match="'warn', 'raise' or 'record'"):
        LeakGuard("print")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="decorates a function"):
        LeakGuard()(3)  # type: ignore[arg-type]


def test_as_a_decorator_it_watches_the_function_also_when_it_calls_itself():
    guard = LeakGuard("record")

    @guard
    def twice(bench, left=1):
        corpus.square(bench)
        return twice(bench, left - 1) if left else "done"

    assert twice(Bench()) == "done"
    assert guard.report.leaks[0].count == 2
    corpus.square(Bench())
    assert guard.report.leaks[0].count == 2


def test_a_later_harmless_line_is_not_blamed_for_an_earlier_leak():
    bench = Bench()
    with LeakGuard("record") as guard:
        x = corpus.norm(bench)
        x += 1
        total = corpus.buffer(bench)
        total += 1
        total *= 2
    assert [leak.line for leak in guard.report.leaks] == [
        FORMS["x /= norm(x)"].line(),
        FORMS["buffer += W(data) * buffer"].line(),
    ]


def test_leaks_from_before_the_guard_are_not_its_own():
    bench = Bench()
    keep = [corpus.on_ctx(bench) for _ in range(3)]
    with LeakGuard("record") as guard:
        bench.linear(bench.data).sum().backward()
    assert guard.report.leaks == []
    assert len(keep) == 3


class _KeepsOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.y = y  # the line
        return y

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.y


def test_one_output_on_ctx_is_kept_until_the_collector_runs_and_the_report_says_so():
    weight = torch.ones(10, requires_grad=True)
    references = []
    gc.collect()
    gc.disable()
    try:
        with LeakGuard("record") as guard:
            for _ in range(3):
                y = _KeepsOutput.apply(weight)
                y.sum().backward()
                references.append(weakref.ref(y))
                del y
        assert sum(reference() is not None for reference in references) == 3
    finally:
        gc.enable()
    gc.collect()
    assert sum(reference() is not None for reference in references) == 0
    [leak] = guard.report.leaks
    assert (leak.kind, leak.source, leak.count) == ("ctx", "ctx.y = y  # the line", 3)
    assert "until Python's collector has run" in str(leak)


def test_a_sequence_written_into_one_buffer_reads_each_node_once(monkeypatch):
    reads = 0
    held = _graph.held

    def counted(node):
        nonlocal reads
        reads += 1
        return held(node)

    monkeypatch.setattr(_graph, "held", counted)

    def sequence(length):
        nonlocal reads
        reads = 0
        weight = torch.eye(3, requires_grad=True)
        state, states = torch.ones(2, 3), torch.zeros(length, 2, 3)
        with LeakGuard("record"):
            for t in range(length):
                state = torch.tanh(state @ weight)
                states[t] = state
        return reads

    short, long = sequence(20), sequence(40)
    assert long <= 2.2 * short


def test_a_ring_through_two_tensors_that_save_each_other_is_found():
    weight = torch.ones(3, requires_grad=True)
    with LeakGuard("record") as guard:
        p, q = weight * 2, weight * 3
        from_p, from_q = p.sin(), q.sin()
        p += from_q
        assert guard.report.leaks == []
        q += from_p
    [leak] = guard.report.leaks
    assert leak.source == "q += from_p"
    references = [weakref.ref(p), weakref.ref(q)]
    del p, q, from_p, from_q
    gc.collect()
    assert [reference() is not None for reference in references] == [True, True]
    census().release()
    assert [reference() is not None for reference in references] == [False, False]


def test_hooks_on_saved_tensors_decide_what_is_held():
    bench = Bench()
    with LeakGuard("record") as guard, torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda x: x):
        corpus.norm(bench)
        corpus.sliced(bench)
    assert guard.report.leaks == []
    with (
        LeakGuard("record") as guard,
        torch.autograd.graph.saved_tensors_hooks(lambda x: (x,), lambda x: x[0]),
    ):
        corpus.norm(bench)
    assert len(guard.report.leaks) == 1


def test_function_transforms_have_graphs_of_their_own_and_are_passed_over():
    def loss(x):
        y = x * 2
        y *= x.sin()
        return y.sum()

    x = torch.ones(3, dtype=torch.float64)
    expected = torch.func.grad(loss)(x)
    with LeakGuard("record") as guard:
        assert torch.equal(torch.func.grad(loss)(x), expected)
        torch.func.vmap(torch.func.grad(loss))(x.expand(2, 3))
    assert guard.report.leaks == []
    assert guard.report.notes == []


def test_an_out_argument_can_never_leak_because_torch_refuses_it_on_a_graph():
    x = torch.ones(3, requires_grad=True) * 2
    with LeakGuard("record"), pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        torch.mul(x, x, out=x)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: torch.ops.aten.mul_(x, x),
        lambda x: torch._foreach_mul_([x], [x]),
        lambda x: x.__imul__(x),
        lambda x: x.addcmul_(x, x),
    ],
    ids=["packet", "foreach", "dunder", "addcmul"],
)
def test_other_spellings_of_a_leak_are_seen(change):
    with LeakGuard("record") as guard:
        change(torch.ones(3, requires_grad=True) * 2)
    assert len(guard.report.leaks) == 1


def test_a_fault_of_the_guard_is_a_note_and_the_program_goes_on(monkeypatch):
    def broken(*arguments):
        raise OSError("no such graph")

    monkeypatch.setattr(_guard, "search", broken)
    with LeakGuard("record") as guard:
        x = FORMS["x += bias"].step(Bench())
    assert x.shape == (64, 16)
    assert guard.report.notes == ["calls not examined: 2 (OSError: no such graph)"]
    assert "note" in str(guard.report)


def test_other_threads_are_not_watched():
    with LeakGuard("record") as guard:
        thread = threading.Thread(target=corpus.norm, args=(Bench(),))
        thread.start()
        thread.join()
    assert guard.report.leaks == []


def test_the_report_is_plain_data_and_says_what_was_examined():
    with LeakGuard("record") as guard:
        FORMS["x += bias"].step(Bench())
    assert str(guard.report) == "leakwatch: no leak; 2 in-place calls on graphs examined"
    assert guard.report.to_dict() == {"leaks": [], "calls": 2, "notes": []}


def test_no_warning_of_torchs_own_comes_from_looking():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with LeakGuard("record"):
            for form in (*LEAKING, *HARMLESS):
                form.step(Bench())


@pytest.mark.slow
def test_an_argument_changed_in_place_under_a_compiler_leaks_and_is_reported():
    @torch.compile(backend="aot_eager")
    def gate(y):
        y *= torch.sigmoid(y)
        return y.sin()

    bench, references = Bench(), []
    with LeakGuard("record") as guard:
        for _ in range(3):
            y = bench.linear(bench.data)
            gate(y)
            references.append(weakref.ref(y))
    del y
    gc.collect()
    assert sum(reference() is not None for reference in references) == 3
    [leak] = guard.report.leaks
    assert "torch.compile copies into an argument" in leak.cure
    assert any("torch.compile" in note for note in guard.report.notes)
