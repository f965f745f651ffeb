using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Decode;

/// <summary>
/// Steps several sessions of one model together, so that the weights are read once for all. Each keeps its own keys, values and feedback
/// law. A session's result does not depend on the others.
/// </summary>
public sealed class SessionBatch : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Activations _activations;
    private readonly RowBatch _rows = new();
    private DeviceBuffer? _logitsOnDevice;

    /// <summary>Prepares scratch for <paramref name="model"/>.</summary>
    public SessionBatch(LanguageModel model)
    {
        _model = model;
        _activations = model.NewActivations();
    }

    /// <summary>Appends one token to each session and leaves the logits in <see cref="Session.Logits"/>.</summary>
    /// <param name="sessions">Distinct sessions of the model.</param>
    /// <param name="ids">One token for each.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <exception cref="ArgumentException">A session is there twice, the ids are not as many, or one is outside the vocabulary.</exception>
    /// <exception cref="ContextLengthException">One of them is full; none was stepped.</exception>
    public void Step(IReadOnlyList<Session> sessions, ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, sessions.Count);
        if (ids.IsEmpty)
        {
            return;
        }

        for (int i = 0; i < sessions.Count; i++)
        {
            if (sessions[i].Model != _model)
            {
                throw new ModelMismatchException($"Session {i} belongs to another model than its batch.");
            }

            for (int j = 0; j < i; j++)
            {
                if (sessions[j] == sessions[i])
                {
                    throw new ArgumentException($"Sessions {j} and {i} are the same; a step gives each session one token.", nameof(sessions));
                }
            }

            sessions[i].Prepare(ids.Slice(i, 1));
        }

        _rows.Clear();
        for (int i = 0; i < sessions.Count; i++)
        {
            _rows.Add(ids[i], sessions[i].Length, sessions[i].Cache, sessions[i].Steering);
        }

        _activations.Reserve(_rows.Values);
        var logits = LogitRows(sessions.Count);
        try
        {
            _model.Step(_rows, _activations, logits, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            for (int i = 0; i < sessions.Count; i++)
            {
                sessions[i].GiveUp();
            }

            throw;
        }

        for (int i = 0; i < sessions.Count; i++)
        {
            sessions[i].Advance(1, logits, i);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _activations.Dispose();
        _logitsOnDevice?.Dispose();
    }

    private Floats LogitRows(int count)
    {
        long size = 4L * count * _model.Config.V;
        if (_logitsOnDevice is null || _logitsOnDevice.SizeInBytes < size)
        {
            _logitsOnDevice?.Dispose();
            _logitsOnDevice = _model.Ops.Allocate(size);
        }

        return new Floats(_logitsOnDevice.Address, count, _model.Config.V);
    }
}
