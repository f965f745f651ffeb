using System.Diagnostics;
using System.Numerics;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// Logits of sessions that were stepped together, left where the step wrote them // (rows, V): the one place where a session's logits are. Before
/// something else is written there, the rows of sessions that still need theirs are copied to those sessions' own rows
/// (<see cref="Session.OwnLogits"/>). Its members lock, for a session that has left a batch may be at work on another thread; only that session's own
/// calls, and those of the batch that it is in, bring it here.
/// </summary>
internal sealed class LogitRows(LanguageModel model) : IDisposable
{
    private readonly Lock _lock = new();
    private Session?[] _sessions = [];
    private DeviceBuffer? _memory;
    private int _count;
    private bool _isDisposed;

    /// <summary>The first rows // (rows, V).</summary>
    public Floats First(int rows) => new(_memory!.Address, rows, model.Config.V);

    /// <summary>Empties all rows, and makes room for so many.</summary>
    /// <exception cref="DeviceMemoryException">There is none.</exception>
    public void Clear(int rows)
    {
        lock (_lock)
        {
            foreach (var session in _sessions)
            {
                if (session is not null)
                {
                    MoveHome(session);
                }
            }

            if (_sessions.Length < rows)
            {
                _memory?.Dispose();
                (_memory, _sessions) = (null, []);
                int room = (int)BitOperations.RoundUpToPowerOf2((uint)rows);
                _memory = model.Ops.Allocate(4L * room * model.Config.V);
                _sessions = new Session?[room];
            }
        }
    }

    /// <summary>From now on an empty row holds the session's logits.</summary>
    public void Take(Session session, int row)
    {
        session.DropLogits();
        lock (_lock)
        {
            Put(session, row);
        }
    }

    /// <summary>Whether a row holds the session's logits; asked by the batch that the session is in.</summary>
    public bool Holds(Session session, int row) => session.LogitsIn == this && session.LogitRow == row;

    /// <summary>The session's logits are no longer asked for here.</summary>
    /// <returns>False if they have moved to the session's own row.</returns>
    public bool TryDrop(Session session)
    {
        lock (_lock)
        {
            bool here = session.LogitsIn == this;
            if (here)
            {
                int row = session.LogitRow;
                session.LogitsIn = null;
                Remove(row);
            }

            return here;
        }
    }

    /// <summary>Copies a session's logits to an address of the device.</summary>
    /// <returns>False if they have moved to the session's own row.</returns>
    public bool TryCopy(Session session, nint destination)
    {
        lock (_lock)
        {
            bool here = session.LogitsIn == this;
            if (here)
            {
                Copy(session, destination);
            }

            return here;
        }
    }

    /// <summary>Fetches a session's logits.</summary>
    /// <returns>False if they have moved to the session's own row.</returns>
    public bool TryDownload(Session session, Span<float> destination)
    {
        lock (_lock)
        {
            bool here = session.LogitsIn == this;
            if (here)
            {
                model.Ops.DownloadRow(First(_sessions.Length), session.LogitRow, destination);
            }

            return here;
        }
    }

    /// <summary>Ends the batch's use; the memory goes with the last session's need for it.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = true;
            FreeIfEmpty();
        }
    }

    // Locks the session's own rows within these; they lock no others.
    private void MoveHome(Session session)
    {
        var home = session.OwnLogits;
        Debug.Assert(home != this, "a session's own rows are empty before its next step");
        int row = session.LogitRow;
        lock (home._lock)
        {
            Copy(session, home.First(1).Address);
            home.Put(session, 0);
        }

        Remove(row);
    }

    private void Put(Session session, int row)
    {
        (_sessions[row], session.LogitRow) = (session, row);
        session.LogitsIn = this;
        _count++;
    }

    private void Copy(Session session, nint destination) =>
        model.Ops.Copy(First(_sessions.Length).Slice(session.LogitRow, 1).Address, destination, 4L * model.Config.V);

    private void Remove(int row)
    {
        _sessions[row] = null;
        _count--;
        FreeIfEmpty();
    }

    private void FreeIfEmpty()
    {
        if (_isDisposed && _count == 0)
        {
            model.Ops.Settle();
            _memory?.Dispose();
            _memory = null;
        }
    }
}
