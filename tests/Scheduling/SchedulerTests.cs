using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Scheduling;
using Tiller.Tests.Decode;
using Tiller.Tests.Model;

namespace Tiller.Tests.Scheduling;

/// <summary>Texts that are continued together are those of each alone; limits, cancellation and waiting hold nobody else up.</summary>
public sealed class SchedulerTests
{
    private const int Chunk = 8;

    private static LanguageModel Model => TestModels.Demo;

    [Test]
    public async Task Up_to_eight_texts_at_once_are_bit_for_bit_as_alone()
    {
        var texts = Mixed(24);
        Outcome[] together = await Run(new SchedulerOptions { MaxSequences = 8, PrefillChunk = Chunk }, texts);
        Outcome[] alone = await Run(new SchedulerOptions { MaxSequences = 1, PrefillChunk = Chunk }, texts);
        for (int i = 0; i < texts.Length; i++)
        {
            Assert.That(together[i].Text, Is.EqualTo(alone[i].Text), $"text {i}");
            Assert.That(together[i].Tokens.Select(Bits), Is.EqualTo(alone[i].Tokens.Select(Bits)), $"text {i}");
        }
    }

    [Test]
    public async Task Sixty_four_mixed_texts_are_those_of_each_alone_up_to_a_near_tie()
    {
        const double Tie = 1e-3;
        var texts = Mixed(64);
        Outcome[] together = await Run(new SchedulerOptions { MaxSequences = 64, PrefillChunk = Chunk }, texts);
        int compared = 0;
        for (int i = 0; i < texts.Length; i++)
        {
            Outcome alone = (await Run(new SchedulerOptions { MaxSequences = 1, PrefillChunk = Chunk }, [texts[i]]))[0];
            for (int t = 0; t < alone.Tokens.Length; t++)
            {
                var best = alone.Tokens[t].Probabilities!.MostProbable;
                if (best[0].LogProbability - best[1].LogProbability < Tie)
                {
                    break;
                }

                Assert.That(together[i].Tokens[t].Id, Is.EqualTo(alone.Tokens[t].Id), $"text {i}, token {t}");
                Assert.That(together[i].Tokens[t].Probabilities!.LogProbability,
                    Is.EqualTo(alone.Tokens[t].Probabilities!.LogProbability).Within(1e-3));
                compared++;
            }
        }

        Assert.That(compared, Is.GreaterThan(texts.Length * 5), "near ties are few");
    }

    [Test]
    public async Task A_text_is_that_of_a_generation()
    {
        var options = new GenerationOptions
        {
            MaxNewTokens = 20,
            Sampling = new() { Temperature = 0.8f, Seed = 4 },
            Law = Laws.Random(Model, 1),
            StopStrings = new(["."])
        };
        int[] prompt = TestModels.Prompts("demo")[0];
        using var generation = new Generation(Model, prompt, options);
        string expected = "";
        while (generation.MoveNext())
        {
            expected += generation.Current.Text;
        }

        using var scheduler = new Scheduler(Model);
        using var text = scheduler.Submit(prompt, options);
        var outcome = await Read(text);
        Assert.That(outcome.Text, Is.EqualTo(expected));
        Assert.That(outcome.Tokens[^1].StopReason, Is.EqualTo(generation.Current.StopReason));
        Assert.That((outcome.Result.End, outcome.Result.NewTokens, outcome.Result.Seed), Is.EqualTo((TextEnd.Stopped, generation.NewIds.Length,
            (ulong?)4)));
        Assert.That(outcome.Result.Steering!.Effort, Is.EqualTo(generation.Steering!.Effort));
    }

    [Test]
    public async Task A_long_prompt_holds_nobody_up_for_more_than_a_chunk()
    {
        using var turns = new Turns(Model, new SchedulerOptions { PrefillChunk = Chunk });
        using var running = turns.Scheduler.Submit([3], Endless(60));
        turns.Wait(2);
        using var longPrompt = turns.Scheduler.Submit(TestModels.LongPrompt("demo", 12 * Chunk), Endless(2));
        using var shortPrompt = turns.Scheduler.Submit([4, 5, 6], Endless(2));
        turns.Go();
        Outcome first = await Read(shortPrompt), last = await Read(longPrompt);
        await Read(running);
        var prefills = turns.Seen.Skip(1).Where(turn => turn.PrefillTokens > 0).ToArray();
        Assert.That(prefills.Select(turn => turn.PrefillTokens), Is.All.LessThanOrEqualTo(Chunk));
        Assert.That(prefills.Select(turn => turn.Rows), Is.All.Positive, "the one that runs draws a token beside every chunk");
        Assert.That(prefills.Sum(turn => turn.PrefillTokens), Is.EqualTo((12 * Chunk) + 3));
        Assert.That(turns.Seen.FindIndex(turn => turn.Rows == 2), Is.LessThanOrEqualTo(5), "the short prompt does not wait for the long one's end");
        Assert.That((first.Result.End, last.Result.End), Is.EqualTo((TextEnd.Stopped, TextEnd.Stopped)));
    }

    [Test]
    public async Task What_is_over_a_limit_is_refused_with_the_reason()
    {
        long kvBytes = KvCache.SizeInBytesFor(Model.Config, 40);
        using var turns = new Turns(Model, new SchedulerOptions
        {
            MaxSequences = 1,
            MaxQueued = 2,
            MaxPromptTokens = 12,
            MaxNewTokens = 60,
            MaxKvBytes = kvBytes
        });
        var scheduler = turns.Scheduler;
        Assert.That(Refused(() => scheduler.Submit(new int[13])).Reason, Is.EqualTo(RefusalReason.PromptTooLong));
        Assert.That(Refused(() => scheduler.Submit([3], Endless(61))).Reason, Is.EqualTo(RefusalReason.TooManyNewTokens));
        Assert.That(Refused(() => scheduler.Submit([3], Endless(60))).Reason, Is.EqualTo(RefusalReason.KvMemory));
        Assert.That(() => scheduler.Submit([]), Throws.ArgumentException);
        Assert.That(() => scheduler.Submit([-1]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => scheduler.Submit([3], new GenerationOptions { Sampling = new() { TopP = 2 } }), Throws.TypeOf<SamplingOptionsException>());
        Assert.That(() => scheduler.Submit([3], new GenerationOptions { Law = new FeedbackLaw(1, 1, [], []) }),
            Throws.TypeOf<ModelMismatchException>());

        using var running = scheduler.Submit([3], Endless(5));
        turns.Wait(1);
        using var second = scheduler.Submit([3], Endless(5));
        using var third = scheduler.Submit([3], Endless(5));
        var full = Refused(() => scheduler.Submit([3], Endless(5)));
        Assert.That((full.Reason, full.RetryAfter), Is.EqualTo((RefusalReason.QueueFull, (TimeSpan?)TimeSpan.FromSeconds(1))));
        Assert.That((scheduler.Status.Running, scheduler.Status.Queued), Is.EqualTo((1, 2)));
        turns.Go();
        foreach (var text in new[] { running, second, third })
        {
            Assert.That((await Read(text)).Result.End, Is.EqualTo(TextEnd.Stopped));
        }

        Assert.That(scheduler.Status, Is.EqualTo(new SchedulerStatus { PrefillTokens = 3, NewTokens = 15, Steps = 15, Ended = 3 }));
    }

    [Test]
    public async Task Keys_and_values_stay_within_their_bytes()
    {
        long kvBytes = KvCache.SizeInBytesFor(Model.Config, 36);
        var options = new SchedulerOptions { MaxKvBytes = (2 * kvBytes) + (kvBytes / 2), PrefillChunk = Chunk };
        long mostBytes = 0;
        int mostRunning = 0;
        using var scheduler = new Scheduler(Model, options);
        scheduler.AfterTurn = _ =>
        {
            var status = scheduler.Status;
            Volatile.Write(ref mostBytes, Math.Max(mostBytes, status.KvBytes + status.KeptBytes));
            Volatile.Write(ref mostRunning, Math.Max(mostRunning, status.Running));
        };
        ScheduledText[] texts = [.. Enumerable.Range(0, 7).Select(i => scheduler.Submit(TestModels.LongPrompt("demo", 27 + (i % 2)), Endless(9)))];
        Outcome[] outcomes = await Task.WhenAll(texts.Select(Read));
        Assert.That(outcomes.Select(o => o.Result.End), Is.All.EqualTo(TextEnd.Stopped));
        Assert.That(Volatile.Read(ref mostBytes), Is.GreaterThan(kvBytes).And.LessThanOrEqualTo(options.MaxKvBytes));
        Assert.That(Volatile.Read(ref mostRunning), Is.EqualTo(2), "a third does not fit");
        Assert.That(scheduler.Status.KvBytes, Is.Zero);
    }

    // A law whose condition every prompt meets, and one that is pushed less far.
    private static FeedbackLaw Asking(double push = 0.5)
    {
        float[] c = Numbers.Unit(new Random(4), Model.Config.D);
        float[] by = [.. c.Select(x => (float)push * x)];
        float[] All(float value) => [.. Enumerable.Repeat(value, c.Length)];
        return new FeedbackLaw(
            Model.Config.L, Model.Config.D, [], [],
            edits: [new AffineEdit(1, EditPoint.Output, 1, All(1), by, All(-1e9f), All(1e9f)) { Condition = 0 }],
            conditions: [new PromptCondition([new ConditionProbe(2, c)], -2, Above: true)]);
    }

    [Test]
    public async Task Conditions_ask_a_long_prompt_in_chunks_between_steps_and_decide_as_alone()
    {
        const int Chunks = 5;
        int[] prompt = TestModels.LongPrompt("demo", Chunks * Chunk);
        var asked = Endless(6) with { Law = Asking(), SteeredTokens = SteeredTokens.All };
        using var generation = new Generation(Model, prompt, asked);
        var alone = new List<int>();
        while (generation.MoveNext())
        {
            alone.Add(generation.Current.Id);
        }

        using var turns = new Turns(Model, new SchedulerOptions { PrefillChunk = Chunk });
        using var running = turns.Scheduler.Submit([3], Endless(200));
        turns.Wait(2);
        int before = turns.Seen.Count;
        using var text = turns.Scheduler.Submit(prompt, asked);
        turns.Wait(before + (2 * Chunks) + 1);
        var during = turns.Seen.Skip(before).Where(turn => turn.PrefillTokens > 0).ToArray();
        Assert.That(during, Has.Length.EqualTo(2 * Chunks), "it is read once to be asked, and once to be continued");
        Assert.That(during.Select(turn => turn.PrefillTokens), Is.All.EqualTo(Chunk));
        Assert.That(during.Select(turn => turn.Rows), Is.All.GreaterThanOrEqualTo(1), "the other text has a token in every turn");
        turns.Go();
        Assert.That((await Read(text)).Tokens.Select(token => token.Id), Is.EqualTo(alone));
        running.Cancel();
    }

    [Test]
    public async Task What_conditions_need_counts_as_keys_and_values_until_they_are_decided()
    {
        int[] prompt = TestModels.LongPrompt("demo", 3 * Chunk);
        var plain = Endless(4);
        var asked = plain with { Law = Asking() };
        long whole = KvCache.SizeInBytesFor(Model.Config, prompt.Length + 3), more = KvCache.SizeInBytesFor(Model.Config, prompt.Length);
        using var turns = new Turns(Model, new SchedulerOptions { PrefillChunk = Chunk, MaxKvBytes = whole + more });
        long most = 0;
        turns.Scheduler.AfterTurn += _ =>
        {
            var held = turns.Scheduler.Status;
            Volatile.Write(ref most, Math.Max(most, held.KvBytes + held.KeptBytes));
        };
        using var first = turns.Scheduler.Submit(prompt, asked);
        using var second = turns.Scheduler.Submit(prompt, asked with { Law = Asking(0.25) });
        turns.Wait(1);
        var status = turns.Scheduler.Status;
        Assert.That((status.Running, status.KvBytes), Is.EqualTo((1, whole + more)), "the second does not fit beside it");
        turns.Wait(4);
        Assert.That(turns.Scheduler.Status.KvBytes, Is.EqualTo(whole), "asked, it needs no more than another text");
        turns.Go();
        Assert.That((await Read(first)).Tokens, Has.Length.EqualTo(4));
        Assert.That((await Read(second)).Tokens, Has.Length.EqualTo(4));
        Assert.That(Volatile.Read(ref most), Is.EqualTo(whole + more), "never more than is allowed, which the first turn needed");

        using var small = new Scheduler(Model, new SchedulerOptions { MaxKvBytes = whole + more - 1 });
        using var fits = small.Submit(prompt, plain);
        var refused = Refused(() => small.Submit(prompt, asked));
        Assert.That(refused.Reason, Is.EqualTo(RefusalReason.KvMemory));
        Assert.That(refused.Message, Does.Contain("conditions on the prompt"));
        Assert.That(small.MaxNewTokensAfter(prompt.Length, asked.Law), Is.LessThan(small.MaxNewTokensAfter(prompt.Length)));
    }

    [Test]
    public async Task A_law_that_asks_in_the_middle_of_a_text_asks_in_chunks_too()
    {
        const int Tokens = 40;
        var law = Asking(push: 20);
        int[] prompt = TestModels.LongPrompt("demo", 3 * Chunk);
        using var turns = new Turns(Model, new SchedulerOptions { PrefillChunk = Chunk });
        using var other = turns.Scheduler.Submit([3], Endless(200));
        using var text = turns.Scheduler.Submit(prompt, Endless(Tokens));
        turns.Wait(6);
        int before = turns.Seen.Count;
        Assert.That(text.Use(law), Is.True);
        turns.Wait(before + 6);
        var during = turns.Seen.Skip(before).Where(turn => turn.PrefillTokens > 0).ToArray();
        Assert.That(during, Has.Length.GreaterThanOrEqualTo(3));
        Assert.That(during.Select(turn => turn.PrefillTokens), Is.All.LessThanOrEqualTo(Chunk));
        Assert.That(turns.Seen.Skip(before).Select(turn => turn.Rows), Is.All.GreaterThanOrEqualTo(1), "the other text goes on");
        turns.Go();
        Outcome outcome = await Read(text);

        // As a session whose law is changed after as many tokens, which are no more than the turns before.
        int[] drawn = [.. outcome.Tokens.Select(token => token.Id)];
        bool isThere = Enumerable.Range(0, 8).Any(changedAt => Changed(changedAt).SequenceEqual(drawn));
        Assert.That(isThere, "its tokens are those of a session that changes the law at one of its first tokens");
        Assert.That(drawn, Is.Not.EqualTo(Changed(Tokens)), "the law changes the text");
        other.Cancel();

        IEnumerable<int> Changed(int at)
        {
            using var session = new Session(Model);
            Array.ForEach([.. prompt.Chunk(Chunk)], part => session.Append(part));
            var sampler = new Sampler(new SamplingOptions(), Model.Config.V);
            for (int i = 0; i < Tokens; i++)
            {
                if (i == at)
                {
                    session.Use(law);
                }

                int id = session.Draw(sampler);
                session.Append([id]);
                yield return id;
            }
        }
    }

    [Test]
    public async Task A_cancelled_text_is_in_no_further_step()
    {
        using var turns = new Turns(Model, new SchedulerOptions { MaxSequences = 2 });
        using var stays = turns.Scheduler.Submit([3], Endless(12));
        var leaves = turns.Scheduler.Submit([4], Endless(100));
        var queued = turns.Scheduler.Submit([5], Endless(3));
        turns.Wait(3);
        leaves.Dispose();
        queued.Cancel();
        int seen = turns.Seen.Count;
        turns.Go();
        Assert.That((await Read(stays)).Tokens, Has.Length.EqualTo(12));
        Outcome left = await Read(leaves), never = await Read(queued);
        Assert.That((left.Result.End, never.Result.End, never.Result.NewTokens), Is.EqualTo((TextEnd.Cancelled, TextEnd.Cancelled, 0)));
        Assert.That(left.Tokens, Has.Length.EqualTo(left.Result.NewTokens), "what was drawn can be read");
        Assert.That(turns.Seen.Skip(seen).Select(turn => turn.Rows), Is.All.EqualTo(1));
        Assert.That(leaves.Use(null), Is.False, "it has ended");
    }

    [Test]
    public async Task A_reader_who_leaves_cancels_its_text()
    {
        using var scheduler = new Scheduler(Model, new SchedulerOptions { ReaderBuffer = 2 });
        using var text = scheduler.Submit([3], Endless(200));
        await foreach (var token in text.ReadAllAsync())
        {
            break;
        }

        Assert.That((await text.Completion.InTime()).End, Is.EqualTo(TextEnd.Cancelled));
    }

    [Test]
    public async Task A_slow_reader_holds_nobody_up_and_is_dropped_in_the_end()
    {
        var clock = new ManualClock();
        using var scheduler = new Scheduler(Model, new SchedulerOptions
        {
            ReaderBuffer = 4,
            ReaderPatience = TimeSpan.FromSeconds(5),
            Clock = clock
        });
        using var slow = scheduler.Submit([3], Endless(40));
        using var late = scheduler.Submit([3], Endless(40));
        Patience.Until(() => clock.Waiting == 2, "both buffers are full");
        using var other = scheduler.Submit([4], Endless(3));
        Assert.That((await Read(other)).Result.End, Is.EqualTo(TextEnd.Stopped));
        clock.Advance(TimeSpan.FromSeconds(4));
        Outcome read = await Read(late);
        Assert.That((read.Result.End, read.Tokens.Length), Is.EqualTo((TextEnd.Stopped, 40)), "patience begins anew with every pause");
        Assert.That(slow.Completion.IsCompleted, Is.False);
        clock.Advance(TimeSpan.FromSeconds(1));
        await slow.Completion.InTime(); // a reader who comes in time is let off
        var dropped = await Read(slow);
        Assert.That((dropped.Result.End, dropped.Tokens.Length), Is.EqualTo((TextEnd.SlowReader, 4)));
        Assert.That(dropped.Tokens.Select(t => t.Id), Is.EqualTo(read.Tokens.Take(4).Select(t => t.Id)));
        Assert.That(clock.Waiting, Is.Zero);
    }

    [Test]
    public async Task Drained_it_takes_nothing_and_ends_what_takes_too_long()
    {
        var clock = new ManualClock();
        using var turns = new Turns(Model, new SchedulerOptions { MaxSequences = 1, Clock = clock });
        using var running = turns.Scheduler.Submit([3], Endless(5));
        using var queued = turns.Scheduler.Submit([4], Endless(100));
        turns.Wait(2);
        var drained = turns.Scheduler.DrainAsync(TimeSpan.FromSeconds(30));
        Assert.That(Refused(() => turns.Scheduler.Submit([3])).Reason, Is.EqualTo(RefusalReason.Draining));
        Assert.That(drained.IsCompleted, Is.False);
        turns.Wait(8);
        Assert.That((await Read(running)).Result.End, Is.EqualTo(TextEnd.Stopped));
        clock.Advance(TimeSpan.FromSeconds(30));
        turns.Go();
        await drained.InTime();
        var cut = await Read(queued);
        Assert.That((cut.Result.End, cut.Tokens.Length), Is.EqualTo((TextEnd.Drained, cut.Result.NewTokens)));
        Assert.That(cut.Result.NewTokens, Is.InRange(1, 99));
        await turns.Scheduler.DrainAsync(TimeSpan.Zero).InTime();
        turns.Scheduler.Dispose();
        Assert.That(() => turns.Scheduler.Submit([3]), Throws.TypeOf<ObjectDisposedException>());
    }

    [Test]
    public async Task Disposed_of_it_ends_every_text()
    {
        var turns = new Turns(Model, new SchedulerOptions { MaxSequences = 1 });
        var running = turns.Scheduler.Submit([3], Endless(100));
        var queued = turns.Scheduler.Submit([4], Endless(100));
        turns.Wait(2);
        turns.Dispose();
        Assert.That((await running.Completion.InTime()).End, Is.EqualTo(TextEnd.Drained));
        Assert.That((await queued.Completion.InTime()).End, Is.EqualTo(TextEnd.Drained));
    }

    [Test]
    public async Task A_prompt_that_begins_like_another_takes_over_its_keys_and_values()
    {
        int[] prompt = TestModels.LongPrompt("demo", (3 * Chunk) + 5);
        int[] other = [.. prompt.Take((2 * Chunk) + 3), 9, 9, 9, 9, 9, 9, 9, 9];
        var law = Laws.Random(Model, 1);
        foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All })
        {
            using var scheduler = new Scheduler(Model, new SchedulerOptions { PrefillChunk = Chunk });
            var options = Endless(6) with { Law = law, SteeredTokens = tokens };
            Outcome first = await Reused(scheduler, prompt, options, 0);
            Outcome again = await Reused(scheduler, prompt, options, 3 * Chunk);
            Assert.That(again.Tokens.Select(Bits), Is.EqualTo(first.Tokens.Select(Bits)));
            Outcome shared = await Reused(scheduler, other, options, 2 * Chunk);
            Assert.That(shared.Tokens.Select(Bits), Is.EqualTo((await Fresh(other, options)).Tokens.Select(Bits)));

            // A law that is the same, and others that are not.
            await Reused(scheduler, prompt, options with { Law = new FeedbackLaw(law.Layers, law.Width, [.. law.Sensors], [.. law.Terms]) },
                3 * Chunk);
            await Reused(scheduler, prompt, options with { Law = new FeedbackLaw(law.Layers, law.Width, [.. law.Sensors], [.. law.Terms], 1) }, 0);
            await Reused(scheduler, prompt, options with { Law = Laws.Random(Model, 2) }, 0);
            await Reused(scheduler, prompt, options with { Law = null }, 0);
            await Reused(scheduler, prompt, options with { SteeredTokens = tokens == SteeredTokens.Last ? SteeredTokens.All : SteeredTokens.Last },
                0);
            await Reused(scheduler, prompt[..(2 * Chunk)], options, Chunk); // the last token is run
            Assert.That(scheduler.Status.PrefixHits, Is.EqualTo(4));
            Assert.That(scheduler.Status.ReusedTokens, Is.EqualTo(9 * Chunk));
        }
    }

    [TestCase(3)]
    [TestCase((2 * Chunk) + 3)]
    public async Task A_prompt_of_several_texts_is_run_once_and_each_is_as_alone(int length)
    {
        int[] prompt = TestModels.LongPrompt("demo", length);
        foreach (var law in new[] { null, Laws.Random(Model, 1), Laws.LooksBack(Model, 2) })
        {
            foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All, SteeredTokens.LastOverCleanPrefix })
            {
                (int[], GenerationOptions)[] texts =
                [
                    .. Enumerable.Range(0, 5).Select(i => (prompt, Endless(9) with
                    {
                        Law = law,
                        SteeredTokens = tokens,
                        ShowsSteering = true,
                        Sampling = new() { Temperature = 0.9f, Seed = (ulong)i, RepetitionPenalty = 1.1f, LogProbabilities = 2 },
                    })),
                ];
                using var scheduler = new Scheduler(Model, new SchedulerOptions { PrefillChunk = Chunk });
                Outcome[] together = await Task.WhenAll(scheduler.SubmitAll(texts).Select(Read));
                Assert.That(scheduler.Status.PrefillTokens, Is.EqualTo(length));
                Assert.That(scheduler.Status.PrefixHits, Is.EqualTo(4));
                Assert.That(together.Select(outcome => outcome.Result.ReusedTokens), Is.EquivalentTo(new[] { 0, length, length, length, length }));
                for (int i = 0; i < texts.Length; i++)
                {
                    Outcome alone = await Fresh(prompt, texts[i].Item2);
                    Assert.That(together[i].Tokens.Select(Bits), Is.EqualTo(alone.Tokens.Select(Bits)), $"text {i}");
                    Assert.That(together[i].Result.Steering?.TrackingError, Is.EqualTo(alone.Result.Steering?.TrackingError), $"text {i}");
                    Assert.That(together[i].Tokens[0].Steering?.Errors.ToArray(), Is.EqualTo(alone.Tokens[0].Steering?.Errors.ToArray()));
                }
            }
        }
    }

    [Test]
    public async Task A_text_whose_prompt_another_had_begun_runs_it_when_that_one_is_cancelled()
    {
        int[] prompt = TestModels.LongPrompt("demo", 3 * Chunk);
        using var turns = new Turns(Model, new SchedulerOptions { PrefillChunk = Chunk });
        var texts = turns.Scheduler.SubmitAll([(prompt, Endless(4)), (prompt, Endless(4))]);
        turns.Wait(1);
        texts[0].Cancel();
        turns.Go();
        Outcome second = await Read(texts[1]);
        Assert.That(second.Tokens.Select(Bits), Is.EqualTo((await Fresh(prompt, Endless(4))).Tokens.Select(Bits)));
        Assert.That((await texts[0].Completion.InTime()).End, Is.EqualTo(TextEnd.Cancelled));
        Assert.That(second.Result.ReusedTokens, Is.Zero);
    }

    [Test]
    public async Task Texts_that_are_submitted_together_are_all_taken_or_none()
    {
        using var turns = new Turns(Model, new SchedulerOptions { MaxSequences = 1, MaxQueued = 3 });
        using var running = turns.Scheduler.Submit([3], Endless(100));
        turns.Wait(1);
        using var first = turns.Scheduler.Submit([4], Endless(1));
        var full = Refused(() => turns.Scheduler.SubmitAll([.. Enumerable.Repeat((new[] { 5 }, Endless(1)), 3)]));
        Assert.That((full.Reason, turns.Scheduler.Status.Queued), Is.EqualTo((RefusalReason.QueueFull, 1)));
        Assert.That(full.RetryAfter, Is.GreaterThan(TimeSpan.Zero));
        var never = Refused(() => turns.Scheduler.SubmitAll([.. Enumerable.Repeat((new[] { 5 }, Endless(1)), 4)]));
        Assert.That((never.Reason, never.RetryAfter), Is.EqualTo((RefusalReason.TooManyTexts, (TimeSpan?)null)));
        Assert.That(() => turns.Scheduler.SubmitAll([([5], Endless(1)), ([], Endless(1))]), Throws.ArgumentException);
        Assert.That(turns.Scheduler.Status.Queued, Is.EqualTo(1));
        var taken = turns.Scheduler.SubmitAll([.. Enumerable.Repeat((new[] { 5 }, Endless(1)), 2)]);
        running.Cancel();
        turns.Go();
        foreach (var text in taken)
        {
            Assert.That((await text.Completion.InTime()).End, Is.EqualTo(TextEnd.Stopped));
        }
    }

    [Test]
    public async Task A_law_that_remembers_the_token_before_is_run_from_the_beginning()
    {
        int[] prompt = TestModels.LongPrompt("demo", (2 * Chunk) + 1);
        using var scheduler = new Scheduler(Model, new SchedulerOptions { PrefillChunk = Chunk });
        foreach (var (tokens, reused) in new[] { (SteeredTokens.All, 0), (SteeredTokens.Last, 2 * Chunk) })
        {
            var options = Endless(6) with { Law = Laws.LooksBack(Model, 3), SteeredTokens = tokens };
            Outcome first = await Reused(scheduler, prompt, options, 0), again = await Reused(scheduler, prompt, options, reused);
            Assert.That(again.Tokens.Select(Bits), Is.EqualTo(first.Tokens.Select(Bits)));
        }
    }

    [Test]
    public async Task Kept_prompts_make_room_for_texts()
    {
        int[] prompt = TestModels.LongPrompt("demo", (4 * Chunk) + 1);
        long text = KvCache.SizeInBytesFor(Model.Config, prompt.Length + 3), kept = KvCache.SizeInBytesFor(Model.Config, 4 * Chunk);
        using var scheduler = new Scheduler(Model, new SchedulerOptions { PrefillChunk = Chunk, MaxKvBytes = text + kept });
        await Reused(scheduler, prompt, Endless(4), 0);
        Assert.That(scheduler.Status.KeptBytes, Is.EqualTo(kept));
        int[] different = [.. prompt.Select(id => id == 3 ? 4 : 3)];
        await Reused(scheduler, different, Endless(4), 0);
        await Reused(scheduler, different, Endless(4), 4 * Chunk);
        await Reused(scheduler, prompt, Endless(4), 0);
        int[] longer = TestModels.LongPrompt("demo", prompt.Length + (4 * Chunk) - 3);
        await Reused(scheduler, longer, Endless(4), 0);
        Assert.That(scheduler.Status.KeptBytes + KvCache.SizeInBytesFor(Model.Config, longer.Length + 3), Is.LessThanOrEqualTo(text + kept));
    }

    [Test]
    public async Task Another_lambda_counts_from_the_next_token_that_is_run()
    {
        var (before, after) = (Laws.LooksBack(Model, 5), Laws.LooksBack(Model, 5, lambda: -3));
        using var turns = new Turns(Model, new SchedulerOptions());
        using var text = turns.Scheduler.Submit([3, 4], Endless(8) with { Law = before });
        turns.Wait(3);
        Assert.That(text.Use(after), Is.True);
        turns.Go();
        Outcome outcome = await Read(text);

        using var session = new Session(Model, before);
        var sampler = new Sampler(Endless(8).Sampling, Model.Config.V);
        var summary = new SteeringSummary(before);
        session.Append([3, 4]);
        for (int i = 0; i < 8; i++)
        {
            summary.Add(session.Steering!);
            if (i == 3)
            {
                session.Use(after);
            }

            int id = session.Draw(sampler);
            Assert.That((outcome.Tokens[i].Id, outcome.Tokens[i].Probabilities!.LogProbability), Is.EqualTo((id, sampler.LogProbability)),
                $"token {i}");
            session.Append(id);
        }

        var told = outcome.Result.Steering!;
        Assert.That((told.TrackingError, told.InputNorm, told.Effort), Is.EqualTo((summary.TrackingError, summary.InputNorm, summary.Effort)),
            "the step before the change counts as it was");
        Assert.That(() => text.Use(new FeedbackLaw(1, 1, [], [])), Throws.TypeOf<ModelMismatchException>());
    }

    [Test]
    public async Task A_text_that_is_not_finite_fails_alone()
    {
        float[] axis = new float[Model.Config.D];
        axis[0] = 1;
        var bad = new FeedbackLaw(Model.Config.L, Model.Config.D, [], [new Term(0, axis, 3e38f), new Term(0, axis, 3e38f)]);
        var texts = Mixed(3);
        Outcome[] expected = await Run(new SchedulerOptions { PrefillChunk = Chunk }, texts);
        Outcome[] outcomes = await Run(new SchedulerOptions { PrefillChunk = Chunk }, [.. texts, (new[] { 3, 4 }, Endless(9) with { Law = bad })]);
        Assert.That(outcomes[3].Result.End, Is.EqualTo(TextEnd.Failed));
        Assert.That(outcomes[3].Result.Error, Is.TypeOf<NonFiniteStateException>());
        Assert.That(outcomes.Take(3).Select(o => o.Text), Is.EqualTo(expected.Select(o => o.Text)));
    }

    [Test]
    public async Task Without_its_model_every_text_fails()
    {
        var model = TestModels.LoadFrom(TestModels.Folder("qwen3-f32"));
        using var turns = new Turns(model, new SchedulerOptions { MaxSequences = 1 });
        using var running = turns.Scheduler.Submit([3], Endless(100));
        using var queued = turns.Scheduler.Submit([4], Endless(100));
        turns.Wait(2);
        model.Dispose();
        turns.Go();
        foreach (var text in new[] { running, queued })
        {
            var result = await text.Completion.InTime();
            Assert.That(result.End, Is.EqualTo(TextEnd.Failed));
            Assert.That(result.Error, Is.TypeOf<ObjectDisposedException>());
        }

        Assert.That(() => turns.Scheduler.Submit([3]), Throws.TypeOf<ObjectDisposedException>());
    }

    private static GenerationOptions Endless(int tokens) => new() { MaxNewTokens = tokens, StopIds = [], Sampling = new() { LogProbabilities = 2 } };

    // Prompts of one to many chunks, some with a common beginning; plain and steered in every way; drawn in every way.
    private static (int[] Prompt, GenerationOptions Options)[] Mixed(int count)
    {
        FeedbackLaw?[] laws = [null, Laws.Random(Model, 1), Laws.LooksBack(Model, 2), Laws.Random(Model, 3, maxEffort: 1)];
        SamplingOptions[] samplings =
        [
            new(), new() { Temperature = 0.8f }, new() { FrequencyPenalty = 1, PresencePenalty = 0.5f }, new() { Temperature = 1, TopP = 0.9f,
                RepetitionPenalty = 1.2f },
            new() { Temperature = 0.7f, TopK = 30, LogitBias = new Dictionary<int, float> { [7] = 5, [8] = -100 } },
        ];
        return
        [
            .. Enumerable.Range(0, count).Select(i => (TestModels.LongPrompt("demo", 1 + (i * 7 % (4 * Chunk))), new GenerationOptions
            {
                MaxNewTokens = 6 + (i % 9),
                Law = laws[i % laws.Length],
                SteeredTokens = i % 3 == 0 ? SteeredTokens.All : SteeredTokens.Last,
                Sampling = samplings[i % samplings.Length] with { Seed = (ulong)i, LogProbabilities = 2 },
                StopIds = [],
            })),
        ];
    }

    private static (int Id, int LogProbability) Bits(GeneratedToken token) =>
        (token.Id, BitConverter.SingleToInt32Bits(token.Probabilities!.LogProbability));

    private static RefusedException Refused(Action call) => Assert.Throws<RefusedException>(() => call())!;

    private static async Task<Outcome[]> Run(SchedulerOptions options, (int[] Prompt, GenerationOptions Options)[] texts)
    {
        using var scheduler = new Scheduler(Model, options);
        return await Task.WhenAll([.. texts.Select(text => Read(scheduler.Submit(text.Prompt, text.Options)))]);
    }

    private static async Task<Outcome> Fresh(int[] prompt, GenerationOptions options) =>
        (await Run(new SchedulerOptions { PrefillChunk = Chunk }, [(prompt, options)]))[0];

    private static async Task<Outcome> Reused(Scheduler scheduler, int[] prompt, GenerationOptions options, int tokens)
    {
        Outcome outcome = await Read(scheduler.Submit(prompt, options));
        Assert.That((outcome.Result.End, outcome.Result.ReusedTokens), Is.EqualTo((TextEnd.Stopped, tokens)));
        return outcome;
    }

    private static async Task<Outcome> Read(ScheduledText text)
    {
        using var guard = Patience.Guard();
        var tokens = new List<GeneratedToken>();
        await foreach (var token in text.ReadAllAsync(guard.Token))
        {
            tokens.Add(token);
        }

        return new Outcome(string.Concat(tokens.Select(t => t.Text)), [.. tokens], await text.Completion.InTime());
    }

    private sealed record Outcome(string Text, GeneratedToken[] Tokens, ScheduledResult Result);

    /// <summary>A scheduler that is held up after its turns, so that a test knows where it is.</summary>
    private sealed class Turns : IDisposable
    {
        private readonly SemaphoreSlim _goes = new(0);
        private readonly SemaphoreSlim _has = new(0);
        private readonly Lock _lock = new();
        private readonly List<SchedulerTurn> _seen = [];
        private volatile bool _isFree;

        public Turns(LanguageModel model, SchedulerOptions options)
        {
            Scheduler = new Scheduler(model, options) { AfterTurn = After };
        }

        public Scheduler Scheduler { get; }

        /// <summary>The turns so far, in a list that does not grow with them.</summary>
        public List<SchedulerTurn> Seen
        {
            get
            {
                lock (_lock)
                {
                    return [.. _seen];
                }
            }
        }

        /// <summary>Lets it make turns until it has made so many, and holds it up after the last.</summary>
        public void Wait(int turns)
        {
            for (int i = Seen.Count; i < turns; i++)
            {
                if (i > 0)
                {
                    _goes.Release();
                }

                Assert.That(_has.Wait(Patience.Limit), $"turn {i + 1} does not come");
            }
        }

        public void Go()
        {
            _isFree = true;
            _goes.Release();
        }

        public void Dispose()
        {
            Go();
            Scheduler.Dispose();
        }

        private void After(SchedulerTurn turn)
        {
            lock (_lock)
            {
                _seen.Add(turn);
            }

            if (!_isFree)
            {
                _has.Release();
                Assert.That(_goes.Wait(Patience.Limit), "nobody lets it go on");
            }
        }
    }
}
