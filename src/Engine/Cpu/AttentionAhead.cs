using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using Tiller.Checkpoint;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>
/// The keys or values that the next attention of a batch of decoding rows will read. A linear map of so many rows is bound by arithmetic, so it asks
/// for them meanwhile. They are in the order of the attention's parts, so that a thread asks for what it will read.
/// </summary>
internal readonly struct AttentionAhead
{
    private const int LineInBytes = 64;

    // With fewer rows, maps are bound by the memory too.
    private const int LeastRows = 2 * CpuLinear.DotRows;

    // What is asked for too early is thrown out of the last cache before it is read.
    private const long MostInBytes = 8 << 20;

    private readonly RowBatch? _rows;
    private readonly ModelConfig _config;
    private readonly int _layer;
    private readonly bool _ofValues;

    private AttentionAhead(RowBatch rows, ModelConfig c, int k, bool ofValues) => (_rows, _config, _layer, _ofValues) = (rows, c, k, ofValues);

    // Key/value heads of all rows.
    private int Heads => _rows!.Values * _config.G;

    /// <summary>
    /// The values of the attention of layer k, or its keys. Nothing if the batch is small, if they are too many, or if rows of one sequence share
    /// them.
    /// </summary>
    public static AttentionAhead Of(RowBatch rows, ModelConfig c, int k, bool ofValues)
    {
        if (rows.Values < LeastRows || rows.Tangents > 0)
        {
            return default;
        }

        var ahead = new AttentionAhead(rows, c, k, ofValues);
        long size = 0;
        for (int i = 0; i < rows.Values; i++)
        {
            if (i > 0 && ReferenceEquals(rows[i].Cache, rows[i - 1].Cache))
            {
                return default;
            }

            size += c.G * ahead.Memory(i, 0).SizeInBytes;
        }

        return size <= MostInBytes ? ahead : default;
    }

    /// <summary>What a part of a loop asks for, spread over its work.</summary>
    public Share Of(int part, int parts, int work) =>
        _rows is null ? default : new(this, (double)Heads * part / parts, (double)Heads / parts / work);

    // Keys or values of the tokens before the row's own, in the layer's window.
    private (nint Address, long SizeInBytes) Memory(int i, int group)
    {
        ref readonly var row = ref _rows![i];
        int begin = CpuOps.WindowBegin(_config, _layer, row.Position + 1);
        var memory = _ofValues ? row.Cache.Values(_layer, group) : row.Cache.Keys(_layer, group);
        return (memory.From(begin).Address, (long)memory.RowInBytes * (row.Position - begin));
    }

    /// <summary>A part's share. A place is a number of heads, and a fraction of the next one's memory.</summary>
    internal struct Share(AttentionAhead ahead, double begin, double step)
    {
        private double _at = begin;

        /// <summary>Whether there is anything to ask for.</summary>
        internal readonly bool Asks => ahead._rows is not null;

        /// <summary>Asks for as much as belongs to so much of the part's work.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Ask(int work)
        {
            if (Asks && Sse.IsSupported)
            {
                double until = _at + (step * work);
                while (Take(until, out nint line, out nint end))
                {
                    for (; line < end; line += LineInBytes)
                    {
                        Prefetch(line);
                    }
                }
            }
        }

        /// <summary>Takes what is left of one head before a place. Returns whether anything is left there.</summary>
        internal bool Take(double until, out nint begin, out nint end)
        {
            (begin, end) = (0, 0);
            int head = (int)_at;
            if (_at >= until || head >= ahead.Heads)
            {
                return false;
            }

            var (row, group) = Math.DivRem(head, ahead._config.G);
            var (address, size) = ahead.Memory(row, group);
            begin = size == 0 ? address : (address + (nint)(size * (_at - head))) / LineInBytes * LineInBytes;
            _at = Math.Min(until, head + 1);
            end = address + (nint)(size * (_at - head));
            return true;
        }

        private static unsafe void Prefetch(nint line) => Sse.Prefetch1((void*)line);
    }
}
