using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Native;

/// <summary><c>tiller_sampling</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeSampling
{
    public float Temperature;
    public float TopP;
    public float MinP;
    public float RepetitionPenalty;
    public float PresencePenalty;
    public float FrequencyPenalty;
    public int TopK;
    public int HasSeed;
    public ulong Seed;

    public readonly SamplingOptions ToOptions() => new()
    {
        Temperature = Temperature,
        TopP = TopP,
        MinP = MinP,
        RepetitionPenalty = RepetitionPenalty,
        PresencePenalty = PresencePenalty,
        FrequencyPenalty = FrequencyPenalty,
        TopK = TopK,
        Seed = HasSeed != 0 ? Seed : null,
    };
}

/// <summary><c>tiller_use</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeUse
{
    public nint Controller;
    public double Lambda;
}

/// <summary><c>tiller_stop</c>.</summary>
internal enum Stop
{
    End,
    MaxTokens,
    Context,
    Callback,
}

/// <summary>The functions of <c>tiller.h</c> for sessions and batches.</summary>
internal static unsafe class SessionExports
{
    [UnmanagedCallersOnly(EntryPoint = "tiller_sampling_default", CallConvs = [typeof(CallConvCdecl)])]
    public static void DefaultSampling(NativeSampling* sampling)
    {
        if (sampling is not null)
        {
            *sampling = new NativeSampling { TopP = 1, RepetitionPenalty = 1 };
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_create", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Create(nint model, NativeSampling* sampling, nint* session)
    {
        try
        {
            Results.Check(session, nameof(session));
            var options = sampling is null ? new SamplingOptions() : sampling->ToOptions();
            *session = Handles.Add(new TextSession(Handles.Get<LanguageModel>(model, nameof(model)), options));
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_free", CallConvs = [typeof(CallConvCdecl)])]
    public static void FreeSession(nint session) => Handles.Free<TextSession>(session);

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_steer", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Steer(nint session, NativeUse* uses, nuint count, float maxEffort)
    {
        try
        {
            var steered = Handles.Get<TextSession>(session, nameof(session));
            Results.CheckItems(uses, count, nameof(uses));
            var all = new (Controller, double)[checked((int)count)];
            for (int i = 0; i < all.Length; i++)
            {
                all[i] = (Handles.Get<LoadedController>(uses[i].Controller, $"uses[{i}].controller").Value, uses[i].Lambda);
            }

            using var call = steered.Enter();
            steered.Steer(all, maxEffort == 0 ? float.PositiveInfinity : maxEffort);
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_append", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Append(nint session, int* ids, nuint count)
    {
        try
        {
            var appended = Handles.Get<TextSession>(session, nameof(session));
            var items = Results.Items(ids, count, nameof(ids));
            int bad = items.IndexOfAnyExceptInRange(0, appended.Session.Model.Config.V - 1);
            if (bad >= 0)
            {
                throw new ArgumentException($"ids[{bad}] is {items[bad]}; expected 0 to {appended.Session.Model.Config.V - 1}.");
            }

            using var call = appended.EnterAlone();
            appended.Append(items);
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_step", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Step(nint session, int* id)
    {
        try
        {
            Results.Check(id, nameof(id));
            var stepped = Handles.Get<TextSession>(session, nameof(session));
            using var call = stepped.EnterAlone();
            *id = stepped.Draw();
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_piece", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Piece(nint session, byte** text, nuint* length)
    {
        try
        {
            Results.Check(text, nameof(text));
            Results.Check(length, nameof(length));
            var shown = Handles.Get<TextSession>(session, nameof(session));
            using var call = shown.Enter();
            shown.ShowPiece();
            *text = shown.Piece.Bytes;
            *length = (nuint)shown.Piece.Length;
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_readings", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Readings(nint session, double* error, double* effort)
    {
        try
        {
            Results.Check(error, nameof(error));
            Results.Check(effort, nameof(effort));
            var readable = Handles.Get<TextSession>(session, nameof(session));
            using var call = readable.Enter();
            var read = readable.Session;
            (*error, *effort) = (0, 0);
            if (read.Steering is { } steering && !read.SteeredPositions.IsEmpty)
            {
                var summary = new SteeringSummary(steering.Law);
                summary.Add(steering);
                (*error, *effort) = (summary.TrackingError, summary.Effort);
            }

            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_session_stream", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Stream(
        nint session, int maxTokens, delegate* unmanaged[Cdecl]<void*, int, byte*, nuint, int> onToken, void* user, int* reason)
    {
        try
        {
            Results.Check(onToken, "on_token");
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokens, "max_tokens");
            Results.Set(reason, (int)Stream(Handles.Get<TextSession>(session, nameof(session)), maxTokens, onToken, user));
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_batch_create", CallConvs = [typeof(CallConvCdecl)])]
    public static Status CreateBatch(nint model, nint* batch)
    {
        try
        {
            Results.Check(batch, nameof(batch));
            *batch = Handles.Add(new SessionBatch(Handles.Get<LanguageModel>(model, nameof(model))));
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_batch_free", CallConvs = [typeof(CallConvCdecl)])]
    public static void FreeBatch(nint batch) => Handles.Free<SessionBatch>(batch);

    [UnmanagedCallersOnly(EntryPoint = "tiller_batch_step", CallConvs = [typeof(CallConvCdecl)])]
    public static Status StepBatch(nint batch, nint* sessions, nuint count, int* ids)
    {
        try
        {
            var steps = Handles.Get<SessionBatch>(batch, nameof(batch));
            Results.CheckItems(sessions, count, nameof(sessions));
            Results.CheckItems(ids, count, nameof(ids));
            var rows = new TextSession[checked((int)count)];
            for (int i = 0; i < rows.Length; i++)
            {
                rows[i] = Handles.Get<TextSession>(sessions[i], $"sessions[{i}]");
            }

            StepBatch(steps, rows, 0, new Span<int>(ids, rows.Length));
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    private static Stop Stream(TextSession session, int maxTokens, delegate* unmanaged[Cdecl]<void*, int, byte*, nuint, int> onToken, void* user)
    {
        using var call = session.EnterAlone();
        var model = session.Session.Model;
        for (int count = 1; ; count++)
        {
            int id = session.Draw();
            bool isEnd = model.EndIds.Contains(id), isFull = session.Session.Length >= model.Config.MaxPositions;
            if (isEnd || isFull)
            {
                session.Flush();
            }

            session.ShowPiece();
            if (onToken(user, id, session.Piece.Bytes, (nuint)session.Piece.Length) != 0)
            {
                return Stop.Callback;
            }

            if (isEnd || isFull || count == maxTokens)
            {
                return isEnd ? Stop.End : isFull ? Stop.Context : Stop.MaxTokens;
            }
        }
    }

    // Enters the sessions from index `from` on, one inside the other, and then steps all of them.
    private static void StepBatch(SessionBatch batch, TextSession[] sessions, int from, Span<int> ids)
    {
        if (from < sessions.Length)
        {
            using var call = sessions[from].EnterAlone();
            StepBatch(batch, sessions, from + 1, ids);
            return;
        }

        TextSession[] pending = [.. sessions.Where(session => session.Pending is not null)];
        if (pending.Length > 0)
        {
            batch.Step([.. pending.Select(session => session.Row)], pending.Select(session => session.Pending!.Value).ToArray());
            Array.ForEach(pending, session => session.HasRun());
        }

        ids.Fill(-1);
        try
        {
            batch.Draw([.. sessions.Select(session => session.Row)], ids);
        }
        finally
        {
            // If the draw failed for some sessions, the others still take their tokens.
            for (int i = 0; i < ids.Length; i++)
            {
                if (ids[i] >= 0)
                {
                    sessions[i].Take(ids[i]);
                }
            }
        }
    }
}
