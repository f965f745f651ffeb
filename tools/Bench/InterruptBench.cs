using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>Measures how soon long work ends after a cancellation at a random moment, and the program after a signal.</summary>
internal static partial class InterruptBench
{
    private const int Steps = 64;
    private const int TextInBytes = 1_000_000;
    private const int Cancelled = 130;
    private const int Terminate = 15; // SIGTERM
    private const int ExitOfSignals = 128; // plus the signal that ended a program

    /// <summary>Measures load, tokenizer, prompt, steps, fits, and the whole program.</summary>
    /// <exception cref="BenchException">The demo's texts are not for this shape.</exception>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        int prompt = request.ContextLength;
        bool demo = request.Shape.Name == "demo";
        FitBench.CheckTexts(request);
        if (prompt + Steps > c.MaxPositions)
        {
            throw new BenchException(
                $"{Steps} steps after a prompt of {prompt} tokens need {prompt + Steps} positions; this shape has {c.MaxPositions}. "
                + "Use a shorter --context.");
        }

        meter.Machine.Require(counts.AllBytes + counts.CacheBytes(prompt + Steps) + FitBench.SizeInBytes(request, meter.Machine));
        string folder = demo ? request.DemoFolder : Directory.CreateTempSubdirectory("tiller-bench-").FullName;
        try
        {
            if (!demo)
            {
                RandomCheckpoint.Write(folder, request);
            }

            yield return CallRow("load", token => LanguageModel.Load(folder, request.LoadOptions, token).Dispose());
            using (var model = LanguageModel.Load(folder, request.LoadOptions, cancellationToken))
            {
                foreach (var row in Calls(model))
                {
                    yield return row;
                }
            }

            if (!OperatingSystem.IsWindows())
            {
                yield return Row("the program while it decodes, to its end", random => Program(folder, request, random));
            }
        }
        finally
        {
            if (!demo)
            {
                Directory.Delete(folder, recursive: true);
            }
        }

        IEnumerable<BenchRow> Calls(LanguageModel model)
        {
            string text = new('a', TextInBytes);
            yield return CallRow(
                $"encode {TextInBytes / 1e6:0.##} MB of one character", token => model.Tokenizer.Encode(text, cancellationToken: token));
            int[] ids = RandomParts.Tokens(c.V, prompt, seed: 4);
            yield return CallRow($"prefill {prompt} tokens", token =>
            {
                using var session = new Session(model);
                session.Prefill(ids, token);
            });
            yield return CallRow($"decode {Steps} tokens, plain", token => Decode(model, law: null, prompt, token));
            var law = RandomParts.Law(c, termsPerLayer: 1, seed: 5);
            yield return CallRow($"decode {Steps} tokens, steered", token => Decode(model, law, prompt, token));
            var contrast = FitBench.Contrast(request);
            int prompts = contrast.Positive.Count + contrast.Negative.Count;
            foreach (var (kind, options) in new[] { ("dense", new FitOptions()), ("factored", new FitOptions { Cost = FitCost.Feature }) })
            {
                yield return CallRow($"fit {kind}, {prompts} prompts",
                    token => ControllerFit.Run(model, contrast, options, cancellationToken: token));
            }
        }

        BenchRow Row(string name, Func<Random, double> reaction)
        {
            var random = new Random(6);
            double worst = 0;
            var row = meter.Figures(name, "ms", () =>
            {
                double ms = reaction(random);
                worst = Math.Max(worst, ms);
                return ms;
            });
            return row with { Name = $"{name}: at worst {worst:0.##} ms" };
        }

        BenchRow CallRow(string name, Action<CancellationToken> work)
        {
            // The first run includes compilation.
            work(cancellationToken);
            var clock = Stopwatch.StartNew();
            work(cancellationToken);
            double wholeMs = clock.Elapsed.TotalMilliseconds;
            return Row(name, random => Reaction(work, random.NextDouble() * wholeMs));
        }
    }

    private static void Decode(LanguageModel model, FeedbackLaw? law, int position, CancellationToken cancellationToken)
    {
        using var session = new Session(model, law);

        // Keys and values of zero have the same cost as others, and need no prefill.
        session.Cache.Reserve(position + Steps, used: 0);
        session.Prepare(new int[position], cancellationToken: cancellationToken);
        session.Advance(position);
        for (int i = 0; i < Steps; i++)
        {
            session.Step(1, cancellationToken);
        }
    }

    /// <summary>
    /// Milliseconds from a cancellation to the return of the work. If the work has ended before, it is started again and cancelled sooner.
    /// </summary>
    private static double Reaction(Action<CancellationToken> work, double afterMs)
    {
        for (double wait = afterMs; ; wait *= 0.8)
        {
            using var source = new CancellationTokenSource();
            long at = 0;
            var canceller = new Thread(() =>
            {
                Thread.Sleep(TimeSpan.FromMilliseconds(wait));
                Volatile.Write(ref at, Stopwatch.GetTimestamp());
                source.Cancel();
            });
            canceller.Start();
            try
            {
                work(source.Token);
                canceller.Join();
            }
            catch (OperationCanceledException)
            {
                long end = Stopwatch.GetTimestamp();
                canceller.Join();
                return Stopwatch.GetElapsedTime(at, end).TotalMilliseconds;
            }
        }
    }

    /// <summary>
    /// Milliseconds from the signal to the end of a decoding process. The signal is SIGTERM, which the program handles like Ctrl-C; a background job
    /// of a script ignores Ctrl-C.
    /// </summary>
    private static double Program(string folder, BenchRequest request, Random random)
    {
        string self = Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "tiller" ? host : "dotnet";
        string[] words =
        [
            .. self == "dotnet" ? new[] { Path.Combine(AppContext.BaseDirectory, "tiller.dll") } : [],
            "generate", "--model", folder, "--max-tokens", "100000", "--temperature", "1", "--device", (request.Device ?? Device.Auto).ToString(),
            "--threads", $"{request.ThreadCount}", "Once upon a time",
        ];
        while (true)
        {
            using var program = Process.Start(new ProcessStartInfo(self, words)
            {
                UseShellExecute = false,
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            var error = program.StandardError.ReadToEndAsync();
            bool decodes = program.StandardOutput.Read() >= 0;
            var rest = program.StandardOutput.ReadToEndAsync();
            Thread.Sleep(decodes ? random.Next(20) : 0);
            long at = Stopwatch.GetTimestamp();
            _ = Kill(program.Id, Terminate);
            program.WaitForExit();
            double ms = Stopwatch.GetElapsedTime(at).TotalMilliseconds;
            Task.WaitAll(error, rest);

            if (program.ExitCode == Cancelled)
            {
                return ms;
            }

            // The text may have ended before the signal, which the program says on its error output. When it is about to exit, the signal ends it.
            bool textEnded = program.ExitCode == 0 || (program.ExitCode == ExitOfSignals + Terminate && error.Result.Length > 0);
            if (!textEnded)
            {
                throw new BenchException($"The program ended with {program.ExitCode} instead of {Cancelled}: {error.Result}");
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}
