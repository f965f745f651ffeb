using System.Collections;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Interop;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>
/// What has been disposed of cannot be used, what is in use goes when that has ended, and one thread at a time uses a session: whatever
/// threads do, they get an error that says so, and neither a wrong token nor the end of the process.
/// </summary>
public sealed class LifetimeTests(string device) : OnEveryDevice(device)
{
    private static readonly int[] s_prompt = [3, 4, 5, 6];

    private LanguageModel? _model;

    private LanguageModel Own => _model ??= TestModels.LoadFrom(TestModels.Folder(AnyFamily));

    // What the device holds: bytes on the CPU, allocations on the host CUDA.
    private long Held
    {
        get
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return IsHostCuda ? HostCuda.LiveAllocations : HostBuffer.LiveInBytes;
        }
    }

    // On a GPU nothing but the tests' own exceptions can be seen.
    private bool Counts => !IsCuda || IsHostCuda;

    private static ContrastSet Contrast => new(["a b", "c d"], ["e f", "g h"]);

    [TearDown]
    public void Drop()
    {
        _model?.Dispose();
        _model = null;
    }

    // ---- disposed -----------------------------------------------------------------------------------------------------

    [Test]
    public void Nothing_begins_after_the_model_was_disposed_of()
    {
        var model = Own;
        var contrast = Contrast;
        var law = Laws.LooksBack(model, 1);
        var session = new Session(model, law);
        var plain = new Session(model);
        var batch = new SessionBatch(model);
        var generation = new Generation(model, s_prompt, new GenerationOptions { Law = law });
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        session.Append(s_prompt);
        plain.Append(s_prompt);
        generation.MoveNext();
        int[] ids = [sampler.Vocabulary - 1], read = session.Ids.ToArray();
        var steering = session.Steering!;
        float[] errors = new float[law.Sensors.Count], norms = new float[law.Layers];
        long held = Held;

        model.Dispose();
        model.Dispose();
        Gone(
            nameof(LanguageModel), () => new Session(model).Dispose(), () => new Session(model, law).Dispose(),
            () => new SessionBatch(model).Dispose(), () => new Generation(model, s_prompt).Dispose(),
            () => Likelihood.LogProbability(model, s_prompt, s_prompt),
            () => FeatureMeasurement.Measure(model, contrast), () => ControllerFit.Run(model, contrast));
        Gone(
            nameof(LanguageModel), () => session.Append(7), () => session.Append(s_prompt), () => session.Step(7),
            () => session.Prefill(s_prompt), () => session.Draw(sampler), () => session.Use(law), () => session.Use(null), () => plain.Use(law),
            () => session.FindNonFinite(s_prompt), () => _ = session.Logits.Length, () => generation.MoveNext(),
            () => batch.Step([new(session), new(plain)], [7, 7]), () => batch.Draw([new(session, sampler)], ids),
            () => steering.ReadErrors(0, errors), () => steering.WriteErrors(errors), () => steering.ReadEffort(0, norms, norms));
        Assert.That((session.Length, session.Ids.ToArray()), Is.EqualTo((read.Length, read)));
        if (Counts)
        {
            Assert.That(Held, Is.LessThan(held));
        }

        foreach (var one in (IDisposable[])[session, plain, batch, generation])
        {
            one.Dispose();
            one.Dispose();
        }

        Gone(nameof(Session), () => session.Append(7), () => generation.MoveNext());
        Gone(nameof(SessionBatch), () => batch.Step([new(session)], [7]));
    }

    [Test]
    public void A_call_after_a_disposal_says_what_was_disposed_of()
    {
        var model = AnyModel;
        var law = Laws.LooksBack(model, 1);
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        var session = new Session(model, law);
        using var other = new Session(model);
        using var left = new SessionBatch(model);
        var batch = new SessionBatch(model);
        var steering = session.Steering!;
        session.Append(s_prompt);
        other.Append(s_prompt);
        batch.Step([new(session), new(other)], [7, 7]); // the logits of both are the batch's
        batch.Dispose();
        batch.Dispose();
        Gone(nameof(SessionBatch), () => batch.Step([new(other)], [7]), () => batch.Draw([new(other, sampler)], new int[1]));
        float[] logits = other.Logits.ToArray();
        session.Dispose();
        session.Dispose();
        steering.Dispose();
        Gone(
            nameof(Session), () => session.Append(7), () => session.Append(s_prompt), () => session.Step(7),
            () => session.Prefill(s_prompt), () => session.Draw(sampler), () => session.Use(law), () => session.FindNonFinite(s_prompt),
            () => _ = session.Logits.Length, () => steering.ReadErrors(0, new float[law.Sensors.Count]),
            () => left.Step([new(other), new(session)], [7, 7]), () => left.Draw([new(other, sampler), new(session, sampler)], new int[2]));

        // The other was refused with it, and is as it was.
        Assert.That(other.Logits.ToArray(), Is.EqualTo(logits));
        OtherThread.Run(() => left.Step([new(other)], [8]));
        using var alone = new Session(model);
        alone.Append(s_prompt);
        alone.Append(7);
        Assert.That(other.Logits.ToArray(), Is.EqualTo(alone.Step(8).ToArray()));
    }

    [Test]
    public void A_law_taken_away_goes_and_the_session_stays()
    {
        var model = AnyModel;
        var law = Laws.LooksBack(model, 1);
        using var session = new Session(model, law);
        session.Append(s_prompt);
        session.Steering!.Dispose(); // it is the session's
        session.Append(7);
        session.Use(null);
        session.Append(8);
        session.Use(law);
        session.Append(9);
        Assert.That(session.Length, Is.EqualTo(s_prompt.Length + 3));
    }

    // ---- under way ----------------------------------------------------------------------------------------------------

    [Test]
    public void A_step_under_way_ends_before_the_model_goes()
    {
        var model = Own;
        float[] expected = Steered(model);
        using var session = new Session(model, Laws.Random(model, 1), SteeredTokens.All);
        using var idle = new Session(model);
        var step = new GatedStep(session, s_prompt);
        long held = Held;
        model.Dispose();
        Gone(nameof(LanguageModel), () => new Session(model).Dispose(), () => idle.Append(s_prompt));
        if (Counts)
        {
            Assert.That(Held, Is.EqualTo(held).Within(IsCuda ? 0 : model.WeightsInBytes / 2), "the weights are there while the step needs them");
        }

        Assert.That(step.End(), Is.EqualTo(expected));
        Assert.That(session.Length, Is.EqualTo(s_prompt.Length));
        Gone(nameof(LanguageModel), () => session.Append(7));
        if (Counts)
        {
            Assert.That(held - Held, Is.GreaterThan(IsCuda ? 0 : model.WeightsInBytes / 2), "the step has let the weights go");
        }
    }

    [Test]
    public void A_step_under_way_ends_before_its_session_goes()
    {
        var model = AnyModel;
        float[] expected = Steered(model);
        long before = Held;
        var session = new Session(model, Laws.Random(model, 1), SteeredTokens.All);
        var step = new GatedStep(session, s_prompt);
        long held = Held;
        session.Dispose();
        session.Dispose();
        Gone(nameof(Session), () => session.Append(7), () => _ = session.Logits.Length);
        if (IsHostCuda)
        {
            Assert.That(HostCuda.LiveAllocations, Is.EqualTo(held));
        }

        Assert.That(step.End(), Is.EqualTo(expected));
        Gone(nameof(Session), () => session.Append(7));
        if (IsHostCuda)
        {
            Assert.That(HostCuda.LiveAllocations, Is.EqualTo(before).And.LessThan(held));
        }
    }

    [Test]
    public void A_second_thread_is_refused_and_does_not_disturb_the_first()
    {
        var model = AnyModel;
        var law = Laws.Random(model, 1);
        float[] expected = Steered(model);
        using var session = new Session(model, law, SteeredTokens.All);
        using var free = new Session(model);
        using var batch = new SessionBatch(model);
        free.Append(s_prompt);
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        var steering = session.Steering!;
        var step = new GatedStep(session, s_prompt);
        Refused(
            "The session", () => session.Append(7), () => session.Append(s_prompt), () => session.Step(7),
            () => session.Prefill(s_prompt), () => session.Draw(sampler), () => session.Use(law), () => session.Use(null),
            () => session.FindNonFinite([]), () => _ = session.Logits.Length,
            () => steering.ReadErrors(0, new float[law.Sensors.Count]), () => steering.ReadEffort(0, new float[law.Layers], new float[law.Layers]));
        Refused("Session 1", () => batch.Step([new(free), new(session)], [7, 7]),
            () => batch.Draw([new(free, sampler), new(session, sampler)], new int[2]));
        Assert.That(free.Length, Is.EqualTo(s_prompt.Length));
        Assert.That(step.End(), Is.EqualTo(expected));
        session.Append(7);
        batch.Step([new(free), new(session)], [8, 8]);
    }

    [Test]
    public void During_a_batchs_call_its_sessions_are_in_use_and_a_disposal_waits()
    {
        var model = AnyModel;
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        using var alone = new Session(model);
        alone.Append(s_prompt);
        float[] expected = alone.Step(7).ToArray();
        long before = Held;
        Session first = new(model), second = new(model);
        var batch = new SessionBatch(model);
        using var idle = new SessionBatch(model);
        first.Append(s_prompt);
        second.Append(s_prompt);
        var sessions = new GatedList<BatchRow>([new(first), new(second)]);
        var step = OtherThread.Start(() => batch.Step(sessions, [7, 7]));
        sessions.WaitUntilReached(); // it has the first
        Refused("The batch", () => batch.Step([new(second)], [7]), () => batch.Draw([new(second, sampler)], new int[1]));
        Refused("The session", () => first.Append(7), () => _ = first.Logits.Length);
        Refused("Session 0", () => idle.Step([new(first)], [7]));
        batch.Dispose();
        first.Dispose();
        Gone(nameof(SessionBatch), () => batch.Step([new(second)], [7]));
        Gone(nameof(Session), () => first.Append(7), () => idle.Step([new(first)], [7]));
        sessions.GoOn();
        OtherThread.End(step);
        Gone(nameof(SessionBatch), () => batch.Step([new(second)], [7]));
        Gone(nameof(Session), () => first.Append(7));
        Assert.That((first.Length, second.Length), Is.EqualTo((s_prompt.Length + 1, s_prompt.Length + 1)));
        Assert.That(second.Logits.ToArray(), Is.EqualTo(expected));
        idle.Step([new(second)], [8]);
        second.Dispose();
        idle.Dispose();
        if (IsHostCuda)
        {
            Assert.That(HostCuda.LiveAllocations, Is.EqualTo(before));
        }
    }

    [Test]
    public void A_batchs_step_under_way_ends_before_the_model_goes()
    {
        var model = Own;
        using Session first = new(model), second = new(model, Laws.LooksBack(model, 2));
        using var batch = new SessionBatch(model);
        first.Append(s_prompt);
        second.Append(s_prompt);
        var sessions = new GatedList<BatchRow>([new(first), new(second)]);
        var step = OtherThread.Start(() => batch.Step(sessions, [7, 7]));
        sessions.WaitUntilReached();
        model.Dispose();
        Gone(nameof(LanguageModel), () => new Session(model).Dispose(), () => second.Append(7));
        sessions.GoOn();
        OtherThread.End(step);
        Assert.That((first.Length, second.Length), Is.EqualTo((s_prompt.Length + 1, s_prompt.Length + 1)));
        Gone(nameof(LanguageModel), () => batch.Step([new(first), new(second)], [7, 7]));
    }

    [Test]
    public void A_call_that_fails_gives_its_turns_back()
    {
        var model = AnyModel;
        var foreign = TestModels.Load(IsHostCuda ? "gemma2-bf16" : "qwen3-f32");
        using Session session = new(model, Laws.LooksBack(model, 1)), other = new(model), elsewhere = new(foreign);
        using var batch = new SessionBatch(model);
        Sampler[] samplers = [.. Enumerable.Range(0, 2).Select(_ => new Sampler(new SamplingOptions(), model.Config.V))];
        var cancelled = new CancellationToken(canceled: true);
        int[] ids = new int[2];
        Assert.That(() => session.Draw(samplers[0]), Throws.TypeOf<InvalidOperationException>().With.Message.Contains("append a prompt"));
        Assert.That(() => session.Append([]), Throws.ArgumentException);
        Assert.That(() => session.Append(s_prompt, cancelled), Throws.InstanceOf<OperationCanceledException>());
        Goes();
        other.Append(s_prompt);
        Assert.That(() => session.Append(-1), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => session.Append(7, cancelled), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(() => session.Append(new int[model.Config.MaxPositions]), Throws.TypeOf<ContextLengthException>());
        Assert.That(() => session.Use(Laws.Random(foreign, 1)), Throws.TypeOf<ModelMismatchException>());
        Assert.That(() => session.Draw(new Sampler(new SamplingOptions(), 5)), Throws.ArgumentException);
        Goes();
        Assert.That(
            () => batch.Step([new(other), new(session), new(other)], [7, 7, 7]),
            Throws.ArgumentException.With.Message.Contains("Sessions 0 and 2 are the same"));
        Assert.That(() => batch.Step([new(session), new(session)], [7, 7]),
            Throws.ArgumentException.With.Message.Contains("Sessions 0 and 1 are the same"));
        Assert.That(
            () => batch.Draw([new(session, samplers[0]), new(other, samplers[0])], ids),
            Throws.ArgumentException.With.Message.Contains("Samplers 0 and 1 are the same"));
        Assert.That(() => batch.Step([new(session), new(null!)], [7, 7]), Throws.ArgumentException.With.Message.Contains("Session 1 is null"));
        Assert.That(
            () => batch.Draw([new(session, samplers[0]), new(other, null!)], ids),
            Throws.ArgumentException.With.Message.Contains("Sampler 1 is null"));
        Assert.That(() => batch.Step([new(session), new(elsewhere)], [7, 7]), Throws.TypeOf<ModelMismatchException>());
        Assert.That(() => batch.Step([new(session), new(other)], [7]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Step([new(session), new(other)], [7, -1]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Step([new(session), new(other)], [7, 7], cancelled), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(() => batch.Draw([new(session, samplers[0])], ids), Throws.InstanceOf<ArgumentException>());
        var broken = new ActingList<BatchRow>([new(session), new(other)], () => throw new NotSupportedException());
        Assert.That(() => batch.Step(broken, [7, 7]), Throws.TypeOf<NotSupportedException>());
        int length = other.Length;
        Goes();
        OtherThread.Run(() => batch.Draw([new(session, samplers[0]), new(other, samplers[1])], ids));
        OtherThread.Run(() => batch.Step([new(session), new(other)], ids));
        Assert.That(other.Length, Is.EqualTo(length + 1));

        void Goes()
        {
            OtherThread.Run(() => session.Append([7]));
            OtherThread.Run(() => session.Draw(samplers[0]));
        }
    }

    [Test]
    public void A_batch_called_by_the_list_it_reads_refuses()
    {
        var model = AnyModel;
        using Session first = new(model), second = new(model);
        using var batch = new SessionBatch(model);
        first.Append(s_prompt);
        second.Append(s_prompt);
        var calling = new ActingList<BatchRow>([new(first), new(second)], () => batch.Step([new(second)], [7]));
        Assert.That(() => batch.Step(calling, [7, 7]), Throws.TypeOf<InvalidOperationException>().With.Message.Contains("list"));
        OtherThread.Run(() => batch.Step([new(first), new(second)], [7, 7]));
        Assert.That((first.Length, second.Length), Is.EqualTo((s_prompt.Length + 1, s_prompt.Length + 1)));
    }

    [Test]
    public void A_sampler_is_drawn_with_by_one_thread()
    {
        var model = AnyModel;
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        using var session = new Session(model);
        session.Append(s_prompt);
        using var draw = sampler.Turn.Enter();
        Refused("The sampler", () => session.Draw(sampler), () => sampler.Next(new float[sampler.Vocabulary], []));
        Assert.That(session.Draw(sampler), Is.InRange(0, sampler.Vocabulary - 1));
    }

    [Test]
    public void Memory_that_has_been_freed_has_no_address()
    {
        var memory = AnyModel.Ops.Allocate(64);
        Assert.That(memory.Address, Is.Not.Zero);
        memory.Dispose();
        Assert.That(() => memory.Address, Throws.TypeOf<ObjectDisposedException>());
    }

    // ---- texts and fits -----------------------------------------------------------------------------------------------

    [Test]
    public async Task A_text_ends_when_its_model_goes_between_two_tokens()
    {
        var model = Own;
        var options = new GenerationOptions { MaxNewTokens = 12, StopIds = [] };
        var tokens = new List<int>();
        var text = model.GenerateAsync(s_prompt, options).GetAsyncEnumerator();
        await using (text.ConfigureAwait(false))
        {
            while (tokens.Count < 3 && await text.MoveNextAsync().ConfigureAwait(false))
            {
                tokens.Add(text.Current.Id);
            }

            model.Dispose();
            Assert.That(async () => await text.MoveNextAsync().ConfigureAwait(false), Throws.TypeOf<ObjectDisposedException>());
        }

        Assert.That(tokens, Is.EqualTo(Text(AnyModel, s_prompt, options.MaxNewTokens).Take(3)));
        Assert.That(() => model.GenerateAsync(s_prompt).ToBlockingEnumerable().Count(), Throws.TypeOf<ObjectDisposedException>());
    }

    [TestCase("activations", FitCost.Feature, null)]
    [TestCase("riccati", FitCost.Feature, null)]
    [TestCase("riccati", FitCost.State, null)]
    [TestCase("riccati", FitCost.State, 4)]
    public void A_fit_ends_at_its_next_pass_once_its_model_is_gone(string stage, FitCost cost, int? order)
    {
        long before = Held;
        var model = Own;
        var told = new List<string>();
        var progress = new Told<FitProgress>(at =>
        {
            if (at.Stage == stage)
            {
                told.Add(at.Stage);
                OtherThread.Run(model.Dispose);
            }
        });
        var options = new FitOptions { Cost = cost, Order = order };
        Assert.That(() => ControllerFit.Run(model, Contrast, options, progress), Throws.TypeOf<ObjectDisposedException>());
        Assert.That(told, Has.Count.EqualTo(1), "the pass after it was not begun");
        if (Counts)
        {
            Assert.That(Held - before, Is.LessThan(IsCuda ? 1 : model.WeightsInBytes / 2), "what the fit has held is free");
        }
    }

    // ---- races --------------------------------------------------------------------------------------------------------

    [Test]
    public void Sessions_decode_right_until_the_model_goes()
    {
        int[] expected = Text(AnyModel, s_prompt, IsHostCuda ? 4 : 20);
        for (int cycle = 0; cycle < (IsHostCuda ? 2 : 25); cycle++)
        {
            var model = TestModels.LoadFrom(TestModels.Folder(AnyFamily));
            UntilGone(model.Dispose, [.. Enumerable.Repeat<Action>(
                () =>
                {
                    using var session = new Session(model);
                    Decode(session, expected, begun: null);
                },
                4)]);
        }
    }

    [Test]
    public void A_session_decodes_right_until_it_goes()
    {
        var model = AnyModel;
        int[] expected = Text(model, s_prompt, IsHostCuda ? 4 : 20);
        long before = Held;
        for (int cycle = 0; cycle < (IsHostCuda ? 3 : 60); cycle++)
        {
            var begun = new TaskCompletionSource();
            var session = new Session(model);
            int after = cycle % 3;
            var thread = OtherThread.Start(() =>
            {
                try
                {
                    Decode(session, expected, drawn =>
                    {
                        if (drawn == after)
                        {
                            begun.TrySetResult();
                        }
                    });
                }
                catch (ObjectDisposedException)
                {
                    Gone(nameof(Session), () => session.Append(7));
                }
            });
            OtherThread.Wait(begun);
            session.Dispose();
            OtherThread.End(thread);
        }

        if (IsHostCuda)
        {
            Assert.That(Held, Is.EqualTo(before));
        }
    }

    [Test]
    public void Whatever_threads_append_to_one_session_is_one_text()
    {
        const int Threads = 4;
        int attempts = IsHostCuda ? 8 : 60;
        var model = AnyModel;
        using Session session = new(model, Laws.LooksBack(model, 1)), again = new(model, Laws.LooksBack(model, 1));
        session.Append(s_prompt);
        int appended = 0;
        OtherThread.Together(Threads, thread =>
        {
            for (int i = 0; i < attempts; i++)
            {
                try
                {
                    session.Append(3 + thread);
                    Interlocked.Increment(ref appended);
                }
                catch (InvalidOperationException e) when (e is not ObjectDisposedException)
                {
                    Assert.That(e.Message, Does.Contain("another thread"));
                }
            }
        });
        int[] ids = session.Ids.ToArray();
        Assert.That(ids, Has.Length.EqualTo(s_prompt.Length + appended).And.Length.GreaterThan(s_prompt.Length));
        again.Append(s_prompt);
        foreach (int id in ids.AsSpan(s_prompt.Length))
        {
            again.Append(id);
        }

        Assert.That(session.Logits.ToArray(), Is.EqualTo(again.Logits.ToArray()));
    }

    [Test]
    public void Batches_decode_right_until_their_sessions_and_they_and_the_model_go()
    {
        const int Threads = 3, Size = 3;
        int[] expected = Text(AnyModel, s_prompt, IsHostCuda ? 6 : 30);
        for (int cycle = 0; cycle < (IsHostCuda ? 1 : 20); cycle++)
        {
            var model = TestModels.LoadFrom(TestModels.Folder(AnyFamily));
            Session[][] all = [.. Enumerable.Range(0, Threads).Select(_ => Enumerable.Range(0, Size).Select(_ => new Session(model)).ToArray())];
            SessionBatch[] batches = [.. all.Select(_ => new SessionBatch(model))];
            using var begun = new CountdownEvent(Threads);
            Task[] threads = [.. all.Select((sessions, i) => OtherThread.Start(() => Decode(batches[i], [.. sessions], expected, begun)))];
            Assert.That(begun.Wait(OtherThread.Guard));
            all[0][cycle % Size].Dispose();
            all[1][0].Dispose();
            batches[1].Dispose();
            model.Dispose();
            foreach (var thread in threads)
            {
                OtherThread.End(thread);
            }

            foreach (var one in all.SelectMany(sessions => sessions).Cast<IDisposable>().Concat(batches))
            {
                one.Dispose();
            }
        }
    }

    [Test]
    public void All_work_on_a_model_is_right_until_it_goes()
    {
        int tokens = IsHostCuda ? 3 : 8;
        int[] expected = Text(AnyModel, s_prompt, tokens);
        var options = new GenerationOptions { MaxNewTokens = tokens, StopIds = [] };
        var fit = new FitOptions { Cost = FitCost.Feature };
        double likelihood = Likelihood.LogProbability(AnyModel, s_prompt, expected);
        float[] mu = FeatureMeasurement.Measure(AnyModel, Contrast).Mu.ToArray();
        double[] gains = [.. ControllerFit.Run(AnyModel, Contrast, fit).Loop.Layers.Select(g => g.Open)];
        for (int cycle = 0; cycle < (IsHostCuda ? 1 : 10); cycle++)
        {
            var model = TestModels.LoadFrom(TestModels.Folder(AnyFamily));
            UntilGone(
                model.Dispose,
                () => Assert.That(Likelihood.LogProbability(model, s_prompt, expected), Is.EqualTo(likelihood)),
                () => Assert.That(FeatureMeasurement.Measure(model, Contrast).Mu, Is.EqualTo(mu)),
                () => Assert.That(ControllerFit.Run(model, Contrast, fit).Loop.Layers.Select(g => g.Open), Is.EqualTo(gains)),
                () => Assert.That(model.GenerateAsync(s_prompt, options).ToBlockingEnumerable().Select(token => token.Id), Is.EqualTo(expected)));
        }
    }

    // Repeats each work on a thread of its own, disposes once all have been done once, and lets them end.
    private static void UntilGone(Action dispose, params Action[] works)
    {
        using var begun = new CountdownEvent(works.Length);
        Task[] threads = [.. works.Select(work => OtherThread.Start(() =>
        {
            for (int round = 0; ; round++)
            {
                try
                {
                    work();
                }
                catch (ObjectDisposedException) when (round > 0)
                {
                    return;
                }

                if (round == 0)
                {
                    begun.Signal();
                }
            }
        }))];
        Assert.That(begun.Wait(OtherThread.Guard));
        dispose();
        foreach (var thread in threads)
        {
            OtherThread.End(thread);
        }
    }

    private static void Decode(Session session, int[] expected, Action<int>? begun)
    {
        var sampler = new Sampler(new SamplingOptions(), session.Model.Config.V);
        session.Append(s_prompt);
        for (int i = 0; i < expected.Length; i++)
        {
            int id = session.Draw(sampler);
            Assert.That(id, Is.EqualTo(expected[i]), $"token {i}");
            begun?.Invoke(i);
            session.Append(id);
        }
    }

    // Until the batch or its model has gone, leaving out sessions that have.
    private static void Decode(SessionBatch batch, List<Session> sessions, int[] expected, CountdownEvent begun)
    {
        foreach (var session in sessions)
        {
            session.Append(s_prompt);
        }

        var sampler = sessions.ToDictionary(session => session, session => new Sampler(new SamplingOptions(), session.Model.Config.V));
        for (int i = 0; ; i++)
        {
            int[] ids = new int[sessions.Count];
            try
            {
                if (i == expected.Length)
                {
                    // Nothing has been disposed of yet: wait for it in steps of their own.
                    batch.Draw([.. sessions.Select(session => new BatchRow(session, sampler[session]))], ids, goesOn: false);
                    i--;
                    continue;
                }

                batch.Draw([.. sessions.Select(session => new BatchRow(session, sampler[session]))], ids);
                Assert.That(ids, Is.All.EqualTo(expected[i]), $"token {i}");
                batch.Step([.. sessions.Select(session => new BatchRow(session))], ids);
                if (i == 0)
                {
                    begun.Signal();
                }
            }
            catch (ObjectDisposedException e) when (e.ObjectName == nameof(Session) && sessions.Count == 3)
            {
                sessions.RemoveAt("012".Single(place => e.Message.StartsWith($"Session {place} has been disposed of", StringComparison.Ordinal))
                    - '0');
                i = sessions[0].Length - s_prompt.Length - 1;
            }
            catch (ObjectDisposedException)
            {
                return;
            }
        }
    }

    private static int[] Text(LanguageModel model, int[] prompt, int tokens)
    {
        using var session = new Session(model);
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        session.Append(prompt);
        int[] ids = new int[tokens];
        for (int i = 0; i < tokens; i++)
        {
            ids[i] = session.Draw(sampler);
            session.Append(ids[i]);
        }

        return ids;
    }

    private static float[] Steered(LanguageModel model)
    {
        using var session = new Session(model, Laws.Random(model, 1), SteeredTokens.All);
        return session.Prefill(s_prompt).ToArray();
    }

    private static void Gone(string what, params Action[] calls)
    {
        for (int i = 0; i < calls.Length; i++)
        {
            var error = Assert.Throws<ObjectDisposedException>(() => calls[i](), $"call {i}")!;
            Assert.That(error.ObjectName, Is.EqualTo(what), $"call {i}: {error.Message}");
            Assert.That(error.Message, Does.Contain("disposed of"), $"call {i}");
        }
    }

    private static void Refused(string what, params Action[] calls)
    {
        for (int i = 0; i < calls.Length; i++)
        {
            var error = Assert.Throws<InvalidOperationException>(() => OtherThread.Run(calls[i]), $"call {i}")!;
            Assert.That(error.Message, Does.StartWith(what + " is in use by another thread").And.Contain("Give each "), $"call {i}");
        }
    }

    /// <summary>A steered prefill on a thread of its own, which stops before its head until it is told to go on.</summary>
    private sealed class GatedStep
    {
        private readonly TaskCompletionSource _inside = new();
        private readonly TaskCompletionSource _goesOn = new();
        private readonly Task<float[]> _step;

        public GatedStep(Session session, int[] ids)
        {
            _step = OtherThread.Start(() =>
            {
                using var call = session.Enter(); // the logits are read in the same one
                session.Prefill(ids, _ =>
                {
                    _inside.TrySetResult();
                    OtherThread.Wait(_goesOn);
                }, CancellationToken.None);
                return session.Logits.ToArray();
            });
            OtherThread.Wait(_inside);
        }

        /// <summary>Lets it go on; the logits.</summary>
        public float[] End()
        {
            _goesOn.TrySetResult();
            return OtherThread.End(_step);
        }
    }

    /// <summary>A list whose reader stops before its second item until it is told to go on.</summary>
    private sealed class GatedList<T>(T[] items) : ReadList<T>(items)
    {
        private readonly TaskCompletionSource _reached = new();
        private readonly TaskCompletionSource _goesOn = new();

        public override T this[int index]
        {
            get
            {
                if (index == 1)
                {
                    _reached.TrySetResult();
                    OtherThread.Wait(_goesOn);
                }

                return base[index];
            }
        }

        public void WaitUntilReached() => OtherThread.Wait(_reached);

        public void GoOn() => _goesOn.TrySetResult();
    }

    /// <summary>A list that does something before its second item is read.</summary>
    private sealed class ActingList<T>(T[] items, Action act) : ReadList<T>(items)
    {
        public override T this[int index]
        {
            get
            {
                if (index == 1)
                {
                    act();
                }

                return base[index];
            }
        }
    }

    private abstract class ReadList<T>(T[] items) : IReadOnlyList<T>
    {
        public int Count => items.Length;

        public virtual T this[int index] => items[index];

        public IEnumerator<T> GetEnumerator() => ((IEnumerable<T>)items).GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
