using LLama;
using LLama.Common;
using LLama.Native;
using Tiller.Bench;

namespace Tiller.Peers;

/// <summary>A model in llama.cpp, through LLamaSharp, from one GGUF file.</summary>
internal sealed class LlamaCpp : IDisposable
{
    private const uint PassRows = 512;

    private readonly string _path;
    private readonly int _threads;
    private readonly LLamaWeights _weights;

    /// <summary>Loads the model.</summary>
    /// <param name="path">The GGUF file.</param>
    /// <param name="threads">Number of threads of a step.</param>
    public LlamaCpp(string path, int threads)
    {
        (_path, _threads) = (path, threads);
        _weights = LLamaWeights.LoadFromFile(Parameters(1, 64));
    }

    /// <summary>Chooses the native library. Call it once, before any model is loaded.</summary>
    /// <param name="wide">Whether to use vectors of 512 bits.</param>
    public static void Choose(bool wide) => NativeLibraryConfig.All.WithCuda(false).WithVulkan(false)
        .WithAvx(wide ? AvxLevel.Avx512 : AvxLevel.Avx2).WithAutoFallback(false)
        .WithLogCallback((level, text) =>
        {
            if (level == LLamaLogLevel.Error)
            {
                Console.Error.Write(text);
            }
        });

    /// <summary>Creates sequences that are stepped together.</summary>
    public Sequences Open(int sequences, int maxTokens) => new(_weights.CreateContext(Parameters(sequences, maxTokens)), sequences);

    public void Dispose() => _weights.Dispose();

    private ModelParams Parameters(int sequences, int maxTokens) => new(_path)
    {
        ContextSize = (uint)(sequences * ((maxTokens + 255) / 256 * 256)),
        SeqMax = (uint)sequences,
        BatchSize = PassRows,
        UBatchSize = PassRows,
        Threads = _threads,
        BatchThreads = _threads,
        GpuLayerCount = 0,
    };

    /// <summary>Sequences that are stepped together, each with its own keys and values.</summary>
    internal sealed class Sequences(LLamaContext context, int count) : IDisposable
    {
        private readonly LLamaBatch _batch = new();

        /// <summary>Number of tokens of each sequence.</summary>
        public int Length { get; private set; }

        /// <summary>Forgets all tokens.</summary>
        public void Clear()
        {
            context.NativeHandle.MemoryClear(data: false);
            Length = 0;
        }

        /// <summary>Shortens all sequences.</summary>
        public void Shorten(int length)
        {
            for (int i = 0; i < count; i++)
            {
                context.NativeHandle.MemorySequenceRemove((LLamaSeqId)i, length, -1);
            }

            Length = length;
        }

        /// <summary>Appends the tokens to every sequence and computes the logits after the last one.</summary>
        public void Prefill(ReadOnlySpan<int> ids)
        {
            for (int done = 0; done < ids.Length; done += (int)PassRows)
            {
                var part = ids[done..Math.Min(ids.Length, done + (int)PassRows)];
                for (int i = 0; i < count; i++)
                {
                    _batch.Clear();
                    for (int n = 0; n < part.Length; n++)
                    {
                        _batch.Add(part[n], Length + n, (LLamaSeqId)i, done + n == ids.Length - 1);
                    }

                    Run();
                }

                Length += part.Length;
            }
        }

        /// <summary>Appends one token to every sequence and computes its logits.</summary>
        public void Step(int id)
        {
            _batch.Clear();
            for (int i = 0; i < count; i++)
            {
                _batch.Add(id, Length, (LLamaSeqId)i, true);
            }

            Run();
            Length++;
        }

        /// <summary>The logits of the last token of the batch.</summary>
        public ReadOnlySpan<float> Logits() => context.NativeHandle.GetLogitsIth(_batch.TokenCount - 1);

        public void Dispose() => context.Dispose();

        private void Run()
        {
            if (context.Decode(_batch) is var result and not DecodeResult.Ok)
            {
                throw new BenchException($"llama.cpp could not run a step: {result}.");
            }

            context.NativeHandle.Synchronize();
        }
    }
}
