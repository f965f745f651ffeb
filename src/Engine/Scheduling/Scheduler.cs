using System.Diagnostics;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Scheduling;

/// <summary>
/// Continues many texts of one model at once, each with its own law, sampler and limits. Texts join and leave between two steps of one batch, and
/// prompts are run in chunks between steps. One thread does all the work, and sleeps while there is none. A text's output does not depend on the
/// other texts: bit for bit in steps of at most eight rows, up to rounding in larger ones. Texts are admitted in the order of their submission.
/// </summary>
/// <example>
/// <code>
/// using var scheduler = new Scheduler(model);
/// using var text = scheduler.Submit(model.Tokenizer.Encode("Once upon a time"), new GenerationOptions { Law = controller.ToLaw(1.5) });
/// await foreach (var token in text.ReadAllAsync())
/// {
///     Console.Write(token.Text);
/// }
/// </code>
/// </example>
public sealed class Scheduler : IDisposable
{
    private static readonly TimeSpan s_leastRetry = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly AutoResetEvent _wake = new(initialState: false);
    private readonly Queue<ScheduledText> _queue = new();
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Thread _thread;
    private readonly List<TaskCompletionSource> _awaited = []; // of those who let a turn go first
    private SchedulerStatus _status;
    private ITimer? _drainTimer;
    private double? _meanSeconds; // moving average of the time from admission to end; null before the first text has ended
    private bool _isDraining;
    private volatile bool _isOver; // all remaining texts are to end
    private volatile bool _isStopping;

    // Fields below are used by the scheduler's thread only.
    private readonly SessionBatch _batch;
    private readonly PrefixStore _prefixes;
    private readonly List<Sequence> _sequences = []; // in the order of admission
    private readonly List<Sequence> _ready = [];     // sequences whose tokens are drawn in this turn
    private readonly List<BatchRow> _rows = [];      // the rows of _ready
    private int[] _ids = [];
    private long _kvBytes;
    private long _prefixHits;
    private long _reusedTokens;
    private long _prefillTokens;
    private long _newTokens;
    private long _steps;
    private int _lastRows;
    private long _ended;
    private long _chunks;

    /// <summary>Creates a scheduler and starts its thread.</summary>
    /// <param name="model">The model. Once it has been disposed of, every text fails.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is outside its range.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public Scheduler(LanguageModel model, SchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        Options = options ?? new SchedulerOptions();
        Options.Validate();
        Model = model;
        _batch = new SessionBatch(model);
        _prefixes = new PrefixStore(model, Options.PrefillChunk);
        _thread = new Thread(Run) { IsBackground = true, Name = nameof(Scheduler) };
        _thread.Start();
    }

    /// <summary>The model.</summary>
    public LanguageModel Model { get; }

    /// <summary>The scheduler's limits and waiting times.</summary>
    public SchedulerOptions Options { get; }

    /// <summary>The state at the end of the last turn, with the present number of waiting texts.</summary>
    public SchedulerStatus Status
    {
        get
        {
            lock (_lock)
            {
                return _status with { Queued = _queue.Count };
            }
        }
    }

    /// <summary>Most positions that a text, prompt and all, may come to: by the context, and by what is allowed for keys and values.</summary>
    public int MaxPositions => PositionsIn(Options.MaxKvBytes);

    /// <summary>Maximum number of new tokens after a prompt, by the context, the limits, and the memory for keys and values.</summary>
    /// <param name="promptTokens">Number of tokens in the prompt.</param>
    /// <param name="law">The law that steers; null for the plain model. One with conditions needs memory to read the prompt for them.</param>
    /// <returns>At least 1; a prompt that is too long is refused when it is submitted.</returns>
    public int MaxNewTokensAfter(int promptTokens, FeedbackLaw? law = null)
    {
        int most = PositionsIn(Options.MaxKvBytes - PromptConditions.SizeInBytesFor(Model, law, promptTokens));
        return Math.Clamp(most - promptTokens + 1, 1, Options.MaxNewTokens);
    }

    /// <summary>Whether a call of <see cref="LetStep"/> waits for the next turn.</summary>
    internal bool IsAwaited
    {
        get
        {
            lock (_lock)
            {
                return _awaited.Count > 0;
            }
        }
    }

    /// <summary>Called on the scheduler's thread after every turn that ran anything; tests observe and delay turns here. May be null.</summary>
    internal Action<SchedulerTurn>? AfterTurn { get; set; }

    /// <summary>Submits a text.</summary>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">How the text is continued; null for the defaults.</param>
    /// <returns>The text. Its tokens can be read as they come.</returns>
    /// <exception cref="RefusedException">The text is refused. The exception says why, and when to try again.</exception>
    /// <exception cref="TillerException">The prompt does not fit the context, the law is for another model, or an option is out of range.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler or the model has been disposed of.</exception>
    public ScheduledText Submit(ReadOnlySpan<int> prompt, GenerationOptions? options = null)
    {
        var text = Check(prompt, options ?? new GenerationOptions());
        Enqueue([text]);
        return text;
    }

    /// <summary>Submits several texts: either all are accepted or none. A prompt that several of them have is run once.</summary>
    /// <param name="texts">The prompts, and how each is continued.</param>
    /// <returns>The texts, in the same order.</returns>
    /// <exception cref="RefusedException">The texts are refused. The exception says why, and when to try again.</exception>
    /// <exception cref="TillerException">A prompt does not fit the context, a law is for another model, or an option is out of range.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler or the model has been disposed of.</exception>
    public IReadOnlyList<ScheduledText> SubmitAll(IReadOnlyList<(int[] Prompt, GenerationOptions Options)> texts)
    {
        ArgumentNullException.ThrowIfNull(texts);
        ScheduledText[] all = [.. texts.Select(text => Check(text.Prompt, text.Options))];
        Enqueue(all);
        return all;
    }

    private ScheduledText Check(ReadOnlySpan<int> prompt, GenerationOptions options)
    {
        using (Model.Enter())
        {
            Continuation.Check(Model, prompt, options);
        }

        if (options.Refit is not null)
        {
            throw new ArgumentException(
                "A scheduler steps many texts at once and makes no law anew between: continue the text with a Generation, or leave "
                + "GenerationOptions.Refit out.",
                nameof(options));
        }

        int bad = prompt.IndexOfAnyExceptInRange(0, Model.Config.V - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(nameof(prompt), prompt[bad], $"A token id must be in 0..{Model.Config.V - 1}.");
        }

        var text = new ScheduledText(this, prompt.ToArray(), options);
        CheckLimits(text);
        return text;
    }

    private void Enqueue(ReadOnlySpan<ScheduledText> texts)
    {
        if (texts.Length > Math.Max(1, Options.MaxQueued))
        {
            throw new RefusedException(
                RefusalReason.TooManyTexts,
                $"{texts.Length} texts are submitted together, and at most {Options.MaxQueued} may wait (SchedulerOptions.MaxQueued): submit "
                + "fewer at once.");
        }

        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isStopping, this);
            if (_isDraining)
            {
                throw new RefusedException(RefusalReason.Draining, "The scheduler is being drained and accepts no more texts. Use another one.");
            }

            if (_queue.Count + texts.Length > Options.MaxQueued)
            {
                var retryAfter = RetryAfter();
                throw new RefusedException(
                    RefusalReason.QueueFull,
                    $"{_queue.Count} texts wait to be admitted, and with {texts.Length} more there would be more than the maximum of "
                    + $"{Options.MaxQueued} (SchedulerOptions.MaxQueued): try again in {retryAfter.TotalSeconds:F0} s.", retryAfter);
            }

            foreach (var text in texts)
            {
                _queue.Enqueue(text);
            }
        }

        Wake();
    }

    /// <summary>Refuses new texts from now on and lets accepted ones end. Texts that are left after <paramref name="patience"/> are ended.</summary>
    /// <param name="patience">Time that the accepted texts have to end.</param>
    /// <returns>A task that completes when no text is left.</returns>
    public Task DrainAsync(TimeSpan patience)
    {
        lock (_lock)
        {
            if (!_isDraining && !_isStopping)
            {
                _isDraining = true;
                _isOver |= patience <= TimeSpan.Zero;
                _drainTimer = _isOver ? null : Options.Clock.CreateTimer(
                    _ =>
                    {
                        _isOver = true;
                        Wake();
                    },
                    null, patience, Timeout.InfiniteTimeSpan);
            }
        }

        Wake();
        return _drained.Task;
    }

    /// <summary>Ends every text and waits for the step under way.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            (_isDraining, _isOver, _isStopping) = (true, true, true);
        }

        Wake();
        if (Thread.CurrentThread != _thread)
        {
            _thread.Join();
        }
    }

    /// <summary>
    /// Lets the texts go first: comes back when they have had a turn, or have nothing to do. For work beside them that is cut in slices.
    /// </summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="OperationCanceledException">The wait was ended.</exception>
    public void LetStep(CancellationToken cancellationToken)
    {
        var turn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_lock)
        {
            if (_isStopping)
            {
                return;
            }

            _awaited.Add(turn);
        }

        Wake();
        turn.Task.Wait(cancellationToken);
    }

    /// <summary>Wakes the thread, because there is something to do or to check.</summary>
    internal void Wake() => _wake.Set();

    private void CheckLimits(ScheduledText text)
    {
        if (text.Prompt.Length > Options.MaxPromptTokens)
        {
            throw new RefusedException(
                RefusalReason.PromptTooLong,
                $"The prompt has {text.Prompt.Length} tokens, and at most {Options.MaxPromptTokens} are allowed "
                + "(SchedulerOptions.MaxPromptTokens): shorten it.");
        }

        var (asked, most) = (text.Options.MaxNewTokens, Options.MaxNewTokens);
        if (asked > most)
        {
            throw new RefusedException(
                RefusalReason.TooManyNewTokens,
                $"{asked} new tokens are asked for, and this scheduler allows at most {most}: ask for fewer.");
        }

        long needed = KvBytesOf(text);
        if (needed > Options.MaxKvBytes)
        {
            throw new RefusedException(
                RefusalReason.KvMemory,
                $"The KV cache of {text.Positions} positions{(ConditionBytesOf(text) > 0 ? " and of the conditions on the prompt" : "")} takes "
                + $"{needed} bytes, and all texts together may use {Options.MaxKvBytes} (SchedulerOptions.MaxKvBytes): shorten the prompt, or ask "
                + "for fewer new tokens.");
        }
    }

    private int PositionsIn(long bytes)
    {
        // A cache begins with a few positions, so one is measured by many.
        int context = Model.Config.MaxPositions;
        return (int)Math.Min(context, bytes / (Model.KvBytesFor(context) / context));
    }

    // Keys and values of the whole text, and those with which its prompt is asked before it is run.
    private long KvBytesOf(ScheduledText text) => Model.KvBytesFor(text.Positions) + ConditionBytesOf(text);

    private long ConditionBytesOf(ScheduledText text) => PromptConditions.SizeInBytesFor(Model, text.Options.Law, text.Prompt.Length);

    // The recent mean duration of a text, times the number of times that all rows must become free.
    private TimeSpan RetryAfter()
    {
        double seconds = (_meanSeconds ?? 0) * (1 + (_queue.Count / Options.MaxSequences));
        return seconds < s_leastRetry.TotalSeconds ? s_leastRetry : TimeSpan.FromSeconds(Math.Ceiling(seconds));
    }

    private void Run()
    {
        try
        {
            for (bool isBusy = false; !_isStopping; isBusy = Turn())
            {
                if (!isBusy)
                {
                    _wake.WaitOne();
                }
            }

            EndAll(TextEnd.Drained, null);
        }
        catch (Exception e) when (EndAll(TextEnd.Failed, e))
        {
            // An internal error: the filter has ended every text with it, and no new text is accepted.
        }
        finally
        {
            _batch.Dispose();
            _prefixes.Dispose();
            _drainTimer?.Dispose();
            _drained.TrySetResult();
            Publish();
        }
    }

    // The work between two steps, and one step. False if there is nothing to do until the thread is woken.
    private bool Turn()
    {
        long ended = _ended;
        EndUnwanted();
        Admit();
        int prefilled = Prefill();
        int drawn = Step();
        _lastRows = drawn;
        Publish();
        if (prefilled + drawn > 0)
        {
            AfterTurn?.Invoke(new SchedulerTurn(prefilled, drawn));
        }

        return prefilled + drawn > 0 || _ended != ended; // a text that has ended has made room
    }

    private void EndUnwanted()
    {
        for (int i = _sequences.Count - 1; i >= 0; i--)
        {
            var text = _sequences[i].Text;
            if (_isOver || text.IsCancelled)
            {
                End(_sequences[i], _isOver ? TextEnd.Drained : TextEnd.Cancelled, null);
            }
            else if (text.HasExpired && !text.HasRoom())
            {
                End(_sequences[i], TextEnd.SlowReader, null);
            }
        }

        lock (_lock)
        {
            for (int i = _queue.Count; i > 0; i--)
            {
                var text = _queue.Dequeue();
                if (_isOver || text.IsCancelled)
                {
                    EndQueued(text, _isOver ? TextEnd.Drained : TextEnd.Cancelled, null);
                }
                else
                {
                    _queue.Enqueue(text);
                }
            }
        }
    }

    private void Admit()
    {
        while (_sequences.Count < Options.MaxSequences)
        {
            ScheduledText? text;
            lock (_lock)
            {
                if (!_queue.TryPeek(out text) || _kvBytes + KvBytesOf(text) > Options.MaxKvBytes)
                {
                    return;
                }

                _queue.Dequeue();
            }

            try
            {
                _sequences.Add(Begin(text));
            }
            catch (Exception e)
            {
                // It is in no list any more, where a failure of the scheduler would look for it.
                EndQueued(text, TextEnd.Failed, e);
                if (!IsOfAText(e))
                {
                    throw;
                }
            }
        }
    }

    private Sequence Begin(ScheduledText text)
    {
        long kvBytes = KvBytesOf(text), budget = Options.MaxKvBytes - _kvBytes - kvBytes;
        var continuation = new Continuation(Model, text.Prompt, text.Options);
        try
        {
            var kept = _prefixes.Find(text.Prompt, text.Steering, budget, out int length);
            continuation.Session.ReservePositions(text.Positions);
            if (kept is not null)
            {
                continuation.Session.TakeOver(text.Prompt.AsSpan(0, length), kept);
                _prefixHits++;
                _reusedTokens += length;
            }

            _kvBytes += kvBytes;
            return new Sequence(text, continuation, length, Options.Clock.GetTimestamp())
            {
                KvBytes = kvBytes,
                ConditionBytes = ConditionBytesOf(text),
                LastChunk = ++_chunks,
            };
        }
        catch
        {
            continuation.Dispose();
            throw;
        }
    }

    // Prompts take turns, so that a long one delays another by at most a chunk. All prompts together run at most one chunk of tokens between two
    // steps.
    private int Prefill()
    {
        int total = 0;
        while (NextPrompt() is { } sequence && (total == 0 || total + NextChunk(sequence) <= Options.PrefillChunk))
        {
            total += RunChunk(sequence);
        }

        return total;
    }

    // The prompt that has waited longest; null if all have been run. One that an earlier text has, too, is run there alone.
    private Sequence? NextPrompt()
    {
        Sequence? next = null;
        for (int i = 0; i < _sequences.Count; i++)
        {
            var sequence = _sequences[i];
            if ((!sequence.IsPrefilled || sequence.NextLaw is not null) && (next is null || sequence.LastChunk < next.LastChunk)
                && (sequence.NextLaw is not null || !FollowsAnother(i)))
            {
                next = sequence;
            }
        }

        return next;
    }

    private bool FollowsAnother(int i)
    {
        for (int j = 0; j < i; j++)
        {
            if (!_sequences[j].IsPrefilled && _sequences[i].Continuation.CanFollow(_sequences[j].Continuation))
            {
                return true;
            }
        }

        return false;
    }

    // Gives the result of a prompt to the texts that wait for the same prompt. It is bit for bit what they would have computed.
    private void Share(Sequence sequence)
    {
        for (int i = _sequences.Count - 1; i >= 0; i--)
        {
            var other = _sequences[i];
            if (other.IsPrefilled || !other.Continuation.CanFollow(sequence.Continuation))
            {
                continue;
            }

            int begin = other.Continuation.Session.Length;
            try
            {
                other.Continuation.Follow(sequence.Continuation);
            }
            catch (Exception e) when (IsOfAText(e))
            {
                End(other, TextEnd.Failed, e);
                continue;
            }

            FreeConditions(other);
            _prefixHits += other.ReusedTokens == 0 ? 1 : 0;
            _reusedTokens += other.Text.Prompt.Length - begin;
            other.ReusedTokens = other.Text.Prompt.Length;
        }
    }

    // A prompt is first asked by the law's conditions, then run. A text that goes on is asked by those of its next law.
    private int NextChunk(Sequence sequence)
    {
        var session = sequence.Continuation.Session;
        int length = sequence.Text.Prompt.Length;
        int left = sequence.NextLaw is { } law ? session.LeftToAsk(law)
            : session.LeftToDecide(length) is > 0 and var asked ? asked
            : length - session.Length;
        return Math.Min(Options.PrefillChunk, left);
    }

    private int RunChunk(Sequence sequence)
    {
        var prompt = sequence.Text.Prompt;
        var session = sequence.Continuation.Session;
        int begin = session.Length, count = NextChunk(sequence);
        sequence.LastChunk = ++_chunks;
        try
        {
            if (sequence.NextLaw is { } law)
            {
                session.AskAhead(law, count);
                if (session.LeftToAsk(law) == 0)
                {
                    sequence.Continuation.Use(law);
                    sequence.NextLaw = null;
                    FreeConditions(sequence);
                }

                return count;
            }

            // A text that takes over another's prompt takes its answers too.
            if (session.LeftToDecide(prompt.Length) > 0)
            {
                session.DecideAhead(prompt, count);
                if (session.LeftToDecide(prompt.Length) == 0)
                {
                    FreeConditions(sequence);
                }

                return count;
            }

            session.Prefill(prompt.AsSpan(begin, count), _ => sequence.Continuation.ObservePass(), CancellationToken.None,
                toCome: prompt.Length - begin - count);
        }
        catch (Exception e) when (IsOfAText(e))
        {
            End(sequence, TextEnd.Failed, e);
            return count;
        }

        _prefillTokens += count;
        if (sequence.IsPrefilled)
        {
            _prefixes.Keep(prompt, sequence.Text.Steering, session.Cache, Options.MaxKvBytes - _kvBytes);
            Share(sequence);
        }

        return count;
    }

    // The keys and values with which a text was asked are freed.
    private void FreeConditions(Sequence sequence)
    {
        _kvBytes -= sequence.ConditionBytes;
        sequence.KvBytes -= sequence.ConditionBytes;
        sequence.ConditionBytes = 0;
    }

    // Gives a text its next law, or makes room to ask the text for the law's conditions first.
    private void Use(Sequence sequence, FeedbackLaw? law)
    {
        Debug.Assert(sequence.ConditionBytes == 0, "what the law before asked has been decided");
        var session = sequence.Continuation.Session;
        sequence.NextLaw = session.LeftToAsk(law) > 0 ? law : null;
        if (sequence.NextLaw is null)
        {
            sequence.Continuation.Use(law);
            return;
        }

        long bytes = PromptConditions.SizeInBytesFor(Model, law, session.Length);
        if (_kvBytes + bytes > Options.MaxKvBytes)
        {
            throw new RefusedException(
                RefusalReason.KvMemory,
                $"The conditions of the new law take {bytes} bytes to read the text of {session.Length} tokens, and all texts together may use "
                + $"{Options.MaxKvBytes} (SchedulerOptions.MaxKvBytes), of which {_kvBytes} are in use.");
        }

        (sequence.ConditionBytes, sequence.KvBytes, _kvBytes) = (bytes, sequence.KvBytes + bytes, _kvBytes + bytes);
        _prefixes.MakeRoom(Options.MaxKvBytes - _kvBytes);
    }

    // Draws and appends the next token of every text whose prompt has been run and whose reader's buffer has room.
    private int Step()
    {
        _ready.Clear();
        _rows.Clear();
        bool goesOn = false;
        foreach (var sequence in _sequences)
        {
            if (sequence.IsPrefilled && sequence.NextLaw is null && sequence.Text.HasRoom())
            {
                _ready.Add(sequence);
            }
        }

        for (int i = 0; i < _ready.Count; i++)
        {
            var sequence = _ready[i];
            if (sequence.Text.TryTakeLaw(out var law))
            {
                try
                {
                    Use(sequence, law);
                }
                catch (Exception e) when (IsOfAText(e))
                {
                    End(sequence, TextEnd.Failed, e);
                }

                if (sequence.HasEnded || sequence.NextLaw is not null)
                {
                    _ready.RemoveAt(i--);
                    continue;
                }
            }

            _rows.Add(sequence.Continuation.Row);
            goesOn |= sequence.Continuation.GoesOn;
        }

        if (_ready.Count == 0)
        {
            return 0;
        }

        int drawn = _ready.Count;
        try
        {
            Draw(goesOn);
            Append();
        }
        catch (Exception e) when (IsOfAText(e))
        {
            // A draw reports the failure of a single text. Any other failure, such as one of the device, ends all texts of the step.
            foreach (var sequence in _ready)
            {
                End(sequence, TextEnd.Failed, e);
            }
        }

        return drawn;
    }

    private void Draw(bool goesOn)
    {
        if (_ids.Length < _rows.Count)
        {
            _ids = new int[Math.Max(_rows.Count, 2 * _ids.Length)];
        }

        try
        {
            _batch.Draw(_rows, _ids.AsSpan(0, _rows.Count), goesOn);
        }
        catch (BatchLogitsException)
        {
            // Texts that failed have the id -1. Each gets its own error below.
        }

        _steps++;
        _newTokens += _rows.Count;
        for (int i = 0; i < _rows.Count; i++)
        {
            var sequence = _ready[i];
            if (_ids[i] < 0)
            {
                var error = NonFiniteLogitsException.Of(sequence.Continuation.Session.Logits);
                End(sequence, TextEnd.Failed, sequence.Continuation.Explain(error, CancellationToken.None));
                continue;
            }

            if (sequence.NewTokens++ == 0)
            {
                sequence.FirstAt = Options.Clock.GetTimestamp();
            }

            var token = sequence.Continuation.Take(_ids[i]);
            sequence.Text.Write(token);
            if (token.StopReason is not null)
            {
                End(sequence, TextEnd.Stopped, null);
            }
        }
    }

    // Appends the tokens of the texts that continue.
    private void Append()
    {
        _rows.Clear();
        int count = 0;
        for (int i = 0; i < _ready.Count; i++)
        {
            if (!_ready[i].HasEnded)
            {
                (_ready[count], _ids[count]) = (_ready[i], _ids[i]);
                _rows.Add(_ready[count++].Continuation.Row);
            }
        }

        _ready.RemoveRange(count, _ready.Count - count);
        _batch.Step(_rows, _ids.AsSpan(0, count));
    }

    private void End(Sequence sequence, TextEnd end, Exception? error)
    {
        if (sequence.HasEnded)
        {
            return;
        }

        sequence.HasEnded = true;
        _sequences.Remove(sequence);
        _kvBytes -= sequence.KvBytes;
        _ended++;
        var clock = Options.Clock;
        long now = clock.GetTimestamp(), first = sequence.FirstAt ?? now;
        double seconds = clock.GetElapsedTime(sequence.AdmittedAt, now).TotalSeconds;
        lock (_lock)
        {
            _meanSeconds = _meanSeconds is { } mean ? mean + (0.1 * (seconds - mean)) : seconds;
        }

        var result = new ScheduledResult(end, error)
        {
            PromptTokens = sequence.Text.Prompt.Length,
            ReusedTokens = sequence.ReusedTokens,
            NewTokens = sequence.NewTokens,
            StopReason = sequence.Continuation.Current.StopReason,
            Seed = sequence.Continuation.Sampler.Seed,
            Steering = sequence.Continuation.Steering,
            Queued = clock.GetElapsedTime(sequence.Text.SubmittedAt, sequence.AdmittedAt),
            Prefill = clock.GetElapsedTime(sequence.AdmittedAt, first),
            Decode = clock.GetElapsedTime(first, now),
        };
        sequence.Continuation.Dispose();
        Publish();
        sequence.Text.Complete(result);
    }

    private void EndQueued(ScheduledText text, TextEnd end, Exception? error)
    {
        _ended++;
        text.Complete(new ScheduledResult(end, error)
        {
            PromptTokens = text.Prompt.Length,
            ReusedTokens = 0,
            NewTokens = 0,
            StopReason = null,
            Seed = null,
            Steering = null,
            Queued = Options.Clock.GetElapsedTime(text.SubmittedAt),
            Prefill = TimeSpan.Zero,
            Decode = TimeSpan.Zero,
        });
    }

    // Returns true, so that it can serve as an exception filter.
    private bool EndAll(TextEnd end, Exception? error)
    {
        _isStopping = true;
        while (_sequences.Count > 0)
        {
            End(_sequences[^1], end, error);
        }

        lock (_lock)
        {
            while (_queue.TryDequeue(out var text))
            {
                EndQueued(text, end, error);
            }
        }

        return true;
    }

    private void Publish()
    {
        lock (_lock)
        {
            _status = new SchedulerStatus(
                _sequences.Count, _queue.Count, _kvBytes, _prefixes.SizeInBytes, _prefixHits, _reusedTokens, _prefillTokens, _newTokens, _steps,
                _ended, _lastRows);
            _awaited.ForEach(turn => turn.TrySetResult());
            _awaited.Clear();
            if (_isDraining && _sequences.Count + _queue.Count == 0)
            {
                _drained.TrySetResult();
            }
        }
    }

    // Errors of the model, the device or the input. Any other error is a fault of the scheduler.
    private static bool IsOfAText(Exception e) => e is TillerException or ObjectDisposedException;

    /// <summary>A text under way.</summary>
    private sealed class Sequence(ScheduledText text, Continuation continuation, int reusedTokens, long admittedAt)
    {
        public ScheduledText Text => text;

        public Continuation Continuation => continuation;

        /// <summary>Size of the keys and values, with those that conditions need at the moment.</summary>
        public required long KvBytes { get; set; }

        /// <summary>The part of <see cref="KvBytes"/> that is freed when the conditions are decided.</summary>
        public required long ConditionBytes { get; set; }

        /// <summary>The law that is used as soon as its conditions are decided; null for none.</summary>
        public FeedbackLaw? NextLaw { get; set; }

        public int ReusedTokens { get; set; } = reusedTokens;

        public long AdmittedAt => admittedAt;

        public bool IsPrefilled => continuation.Session.Length >= text.Prompt.Length;

        /// <summary>Number of this prompt's last chunk, counted over the chunks of all prompts.</summary>
        public long LastChunk { get; set; }

        public long? FirstAt { get; set; }

        public int NewTokens { get; set; }

        public bool HasEnded { get; set; }
    }
}

/// <summary>The work of one turn of the scheduler.</summary>
/// <param name="PrefillTokens">Number of prompt tokens that were run.</param>
/// <param name="Rows">Number of texts whose next token was drawn.</param>
internal readonly record struct SchedulerTurn(int PrefillTokens, int Rows);
