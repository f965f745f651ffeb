using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// Only the drawn tokens are copied to the host: four bytes per row instead of V logits.
internal sealed partial class CudaOps
{
    private DeviceSampling[] _sampling = [];
    private TallyChange[] _changes = [];
    private SoftmaxLine[] _softmax = [];

    // The parts of DrawMemory, each at a multiple of 64 bytes.
    private DeviceBuffer? _draw;

    /// <summary>Draws a token from each row of logits, and waits for the ids.</summary>
    internal void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids)
    {
        int rows = settings.Length;
        lock (_launching)
        {
            bool samples = Samples(settings);
            ReserveDraw(rows, logits.Columns, samples);
            var memory = new DrawMemory(_draw!, rows);
            if (samples)
            {
                if (_sampling.Length < rows)
                {
                    _sampling = new DeviceSampling[Math.Max(rows, 2 * _sampling.Length)];
                }

                for (int i = 0; i < rows; i++)
                {
                    _sampling[i] = Sampling(settings[i]);
                }

                _stream.CopyToDevice(memory.Sampling.Address, MemoryMarshal.AsBytes(_sampling.AsSpan(0, rows)));
            }

            var drawn = Launch(logits, settings, samples ? memory.Sampling : default, memory.Softmax);
            _stream.CopyToHost(drawn.Address, MemoryMarshal.AsBytes(ids[..rows]));
            if (AsksForSoftmax(settings))
            {
                ReceiveSoftmax(settings, memory.Softmax, ids, logits.Columns);
            }
        }
    }

    /// <summary>The settings of a draw in the layout of the kernels.</summary>
    internal static DeviceSampling Sampling(in DrawSettings settings) => new()
    {
        Random = settings.Random,
        Tally = settings.Tally?.Address ?? 0,
        Bias = settings.Tally?.BiasAddress ?? 0,
        Temperature = settings.Temperature,
        TopP = settings.TopP,
        MinP = settings.MinP,
        Repetition = settings.Penalties.Repetition,
        Presence = settings.Penalties.Presence,
        Frequency = settings.Penalties.Frequency,
        TopK = settings.TopK,
        Softmax = settings.Softmax is { } asked ? 1 + asked.Count : 0,
    };

    /// <summary>Whether any row needs its softmax.</summary>
    internal static bool AsksForSoftmax(ReadOnlySpan<DrawSettings> settings)
    {
        foreach (ref readonly var one in settings)
        {
            if (one.Softmax is not null)
            {
                return true;
            }
        }

        return false;
    }

    private static bool Samples(ReadOnlySpan<DrawSettings> settings)
    {
        foreach (ref readonly var one in settings)
        {
            if (one.NeedsSettings)
            {
                return true;
            }
        }

        return false;
    }

    private void ReserveDraw(int rows, int vocabulary, bool samples)
    {
        long size = DrawMemory.ScratchAt(rows) + HeadKernels.ScratchSizeInBytes(rows, vocabulary, samples);
        if (_draw is null || _draw.SizeInBytes < size)
        {
            _draw?.Dispose();
            _draw = null;
            _draw = Allocate(size);
        }
    }

    // Draws with the settings in `sampling`, or, if it is absent, takes each row's largest logit. Returns the ids, which are valid until the next
    // draw.
    private DeviceSpan<int> Launch(Floats logits, ReadOnlySpan<DrawSettings> settings, DeviceSpan<DeviceSampling> sampling,
        DeviceSpan<SoftmaxLine> softmax)
    {
        var memory = new DrawMemory(_draw!, settings.Length);
        if (sampling.IsAbsent)
        {
            _head.ArgMax(_stream, logits, memory.Ids, memory.Scratch);
        }
        else
        {
            SendTallies(settings, memory.Changes);
            _head.Sample(_stream, logits, sampling, memory.Ids, memory.Scratch);
            if (AsksForSoftmax(settings))
            {
                _head.Softmax(_stream, logits, sampling, memory.Ids, softmax);
            }
        }

        return memory.Ids;
    }

    // Sends the changes of the rows' tallies since the last draw.
    private void SendTallies(ReadOnlySpan<DrawSettings> settings, DeviceSpan<TallyChange> to)
    {
        int count = 0;
        foreach (ref readonly var one in settings)
        {
            if (one.Tally is not { } tally)
            {
                continue;
            }

            if (tally.IsWhole)
            {
                _stream.CopyToDevice(tally.Address, tally.Words);
                if (!tally.Bias.IsEmpty)
                {
                    _stream.CopyToDevice(tally.BiasAddress, tally.Bias);
                }

                tally.HasSent();
                continue;
            }

            if (_changes.Length < count + tally.Changed.Length)
            {
                Array.Resize(ref _changes, settings.Length * TokenTally.MaxChanges);
            }

            foreach (int id in tally.Changed)
            {
                _changes[count++] = new TallyChange { Address = tally.Address + (4 * id), Word = tally[id] };
            }
        }

        if (count == 0)
        {
            return;
        }

        _stream.CopyToDevice(to.Address, MemoryMarshal.AsBytes(_changes.AsSpan(0, count)));
        _head.Tally(_stream, to.Slice(0, count));
        foreach (ref readonly var one in settings)
        {
            one.Tally?.HasSent();
        }
    }

    private void ReceiveSoftmax(ReadOnlySpan<DrawSettings> settings, DeviceSpan<SoftmaxLine> lines, ReadOnlySpan<int> ids, int vocabulary)
    {
        int rows = settings.Length;
        if (_softmax.Length < rows)
        {
            _softmax = new SoftmaxLine[Math.Max(rows, 2 * _softmax.Length)];
        }

        _stream.CopyToHost(lines.Address, MemoryMarshal.AsBytes(_softmax.AsSpan(0, rows)));
        for (int i = 0; i < rows; i++)
        {
            if (ids[i] >= 0)
            {
                settings[i].Softmax?.Receive(_softmax[i], vocabulary);
            }
        }
    }

    /// <summary>The parts of the memory for a draw, and their places for a number of rows.</summary>
    private readonly ref struct DrawMemory(DeviceBuffer memory, int rows)
    {
        public DeviceSpan<DeviceSampling> Sampling => new(memory.Address, rows);

        public DeviceSpan<int> Ids => new(memory.Address + IdsAt(rows), rows);

        public DeviceSpan<SoftmaxLine> Softmax => new(memory.Address + SoftmaxAt(rows), rows);

        public DeviceSpan<TallyChange> Changes => new(memory.Address + ChangesAt(rows), rows * TokenTally.MaxChanges);

        public DeviceSpan<byte> Scratch => new DeviceSpan<byte>(memory.Address, memory.SizeInBytes).Slice(ScratchAt(rows),
            memory.SizeInBytes - ScratchAt(rows));

        public static int ScratchAt(int rows) => ChangesAt(rows) + Aligned(rows * TokenTally.MaxChanges * Unsafe.SizeOf<TallyChange>());

        private static int IdsAt(int rows) => Aligned(rows * Unsafe.SizeOf<DeviceSampling>());

        private static int SoftmaxAt(int rows) => IdsAt(rows) + Aligned(4 * rows);

        private static int ChangesAt(int rows) => SoftmaxAt(rows) + Aligned(rows * Unsafe.SizeOf<SoftmaxLine>());

        private static int Aligned(int sizeInBytes) => (sizeInBytes + 63) / 64 * 64;
    }
}
