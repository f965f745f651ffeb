using System.Diagnostics;
using System.Numerics;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// The logits of sessions that were stepped together, left where the step wrote them // (rows, V). A session's logits exist in one place only. Before
/// a row is overwritten, the logits of a session that still needs them are copied to the session's own rows (<see cref="Session.OwnLogits"/>). The
/// members take a lock, because a session that has left a batch may be in use on another thread. Only calls of the session itself, and of the batch
/// that contains it, put its logits here.
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

    /// <summary>Empties all rows and makes room for <paramref name="rows"/> rows.</summary>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
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

    /// <summary>Notes that an empty row now holds the session's logits.</summary>
    public void Take(Session session, int row)
    {
        session.DropLogits();
        lock (_lock)
        {
            Put(session, row);
        }
    }

    /// <summary>Whether a row holds the session's logits. Called by the batch that contains the session.</summary>
    public bool Holds(Session session, int row) => session.LogitsIn == this && session.LogitRow == row;

    /// <summary>Releases the row of a session that no longer needs its logits.</summary>
    /// <returns>False if the logits have moved to the session's own row.</returns>
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
    /// <returns>False if the logits have moved to the session's own row.</returns>
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
    /// <returns>False if the logits have moved to the session's own row.</returns>
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

    /// <summary>Ends the batch's use of the rows. The memory is freed when no session needs its logits there any more.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = true;
            FreeIfEmpty();
        }
    }

    // Takes the lock of the session's own rows while holding this one. The own rows lock nothing further, so no deadlock is possible.
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
