using System.Diagnostics;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>Measures loading a checkpoint of the shape from the page cache, and the peak memory.</summary>
internal static class LoadBench
{
    /// <summary>Writes a random checkpoint to the temporary folder, loads it, and deletes it.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        var counts = request.Counts;
        meter.Machine.Require(counts.AllBytes + (counts.HeadWeights * counts.WeightInBytes));
        string folder = Directory.CreateTempSubdirectory("tiller-bench-").FullName;
        try
        {
            long bytes = RandomCheckpoint.Write(folder, request);
            GC.Collect();
            var times = new List<double>();
            long weights = Load(times);
            times.Clear();

            // Resets the peak memory.
            meter.Release();
            GC.Collect();
            bool counted = ResetPeak();
            while (times.Count < Meter.MinSamples || times.Sum() < request.Seconds)
            {
                Load(times);
            }

            double peak = counted ? 1024.0 * ProcFile.Kilobytes("/proc/self/status", "VmHWM")!.Value : 0;
            yield return meter.Row(
                new Work
                {
                    Name = $"load {request.Shape.Name}, {bytes / 1048576.0:0.#} MiB",
                    Bytes = bytes,
                    Flops = 0,
                    WorkingSet = 2.0 * bytes,
                    Copies = true,
                    Amount = bytes / 1e9,
                    RateUnit = "GB/s",
                    Run = static () => { },
                },
                times);
            if (counted)
            {
                yield return Memory(peak, weights, meter.Machine.Name);
            }

            if (meter.Machine is CudaMachine)
            {
                yield return FirstToken();
            }

            long Load(List<double> into)
            {
                cancellationToken.ThrowIfCancellationRequested();
                long begin = Stopwatch.GetTimestamp();
                using var model = LanguageModel.Load(folder, request.LoadOptions, cancellationToken);
                into.Add(Stopwatch.GetElapsedTime(begin).TotalSeconds);
                return model.WeightsInBytes;
            }

            // Load, a prompt of a few tokens, and the first drawn token.
            BenchRow FirstToken()
            {
                const int Prompt = 16;
                var first = new List<double>();
                int[] ids = RandomParts.Tokens(request.Shape.Config.V, Prompt, seed: 15);
                for (int i = 0; i < Meter.MinSamples; i++)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    long begin = Stopwatch.GetTimestamp();
                    using var model = LanguageModel.Load(folder, request.LoadOptions, cancellationToken);
                    using var generation = new Generation(model, ids, new GenerationOptions { MaxNewTokens = 1 });
                    generation.MoveNext(cancellationToken);
                    first.Add(Stopwatch.GetElapsedTime(begin).TotalSeconds);
                }

                return meter.Row(
                    new Work
                    {
                        Name = $"load {request.Shape.Name} to the first token, prompt of {Prompt}",
                        Bytes = bytes,
                        Flops = 0,
                        WorkingSet = 2.0 * bytes,
                        Copies = true,
                        Amount = bytes / 1e9,
                        RateUnit = "GB/s",
                        Run = static () => { },
                    },
                    first);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static BenchRow Memory(double peak, double weights, string device) => new()
    {
        Device = device,
        Name = $"load: peak resident, {(peak - weights) / 1048576:0.#} MiB over the weights",
        Median = peak / 1048576,
        P10 = peak / 1048576,
        P90 = peak / 1048576,
        Unit = "MiB",
        Samples = 1,
        Rate = weights / 1048576,
        RateUnit = "MiB of weights",
        Bytes = peak,
        Flops = 0,
        PercentOfCeiling = 100 * weights / peak,
        Ceiling = weights / 1048576,
        CeilingUnit = "MiB",
        CeilingName = "the weights",
    };

    // proc(5): writing 5 sets the peak to the present size. Only the owner of the process may do this.
    private static bool ResetPeak()
    {
        const string Path = "/proc/self/clear_refs";
        if (!File.Exists(Path))
        {
            return false;
        }

        File.WriteAllText(Path, "5");
        return true;
    }
}

/// <summary>Writes checkpoints of any shape. All tensors are views of one block of random numbers, so that writing needs little memory.</summary>
internal static class RandomCheckpoint
{
    /// <summary>Writes config.json, model.safetensors and the demo's tokenizer, whose ids fit every vocabulary.</summary>
    /// <returns>Size of the tensors in bytes.</returns>
    public static long Write(string folder, BenchRequest request)
    {
        int size = request.Type == TensorType.F32 ? 4 : 2;
        var shapes = ModelWeights.Tensors(request.Shape.Config);
        long largest = shapes.Max(s => s.Shape.Aggregate(1L, (a, b) => a * b)) * size;
        if (largest > Array.MaxLength)
        {
            throw new BenchException($"The largest tensor of this shape has {largest:N0} bytes; the bench writes tensors of at "
                + $"most {Array.MaxLength:N0}. Use --dtype bf16.");
        }

        long total = shapes.Sum(s => s.Shape.Aggregate(1L, (a, b) => a * b) * size);
        long free = new DriveInfo(folder).AvailableFreeSpace;
        if (total > free)
        {
            throw new BenchException($"A checkpoint of this shape has {total:N0} bytes; {folder} has room for {free:N0}. "
                + "Free some, or set TMPDIR to a larger disk.");
        }

        // In every type, this upper byte gives numbers of either sign with magnitudes between 0.008 and 0.03.
        byte[] block = GC.AllocateUninitializedArray<byte>((int)largest);
        new Random(1).NextBytes(block);
        int exponent = request.Type == TensorType.F16 ? 0x24 : 0x3C;
        for (int i = size - 1; i < block.Length; i += size)
        {
            block[i] = (byte)((block[i] & 0x80) | exponent);
        }

        File.WriteAllBytes(Path.Combine(folder, "config.json"), request.Shape.Json);
        foreach (string name in new[] { "tokenizer.json", "tokenizer_config.json" })
        {
            File.Copy(Path.Combine(request.DemoFolder, name), Path.Combine(folder, name));
        }

        var tensors = shapes.Select(s => new TensorData(
            s.Name, request.Type, s.Shape, block.AsMemory(0, (int)(s.Shape.Aggregate(1L, (a, b) => a * b) * size)))).ToList();
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), new Dictionary<string, string> { ["format"] = "pt" }, tensors);
        return total;
    }
}
