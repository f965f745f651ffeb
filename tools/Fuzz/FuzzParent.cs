using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;

namespace Tiller.Fuzz;

/// <summary>The counts of one target.</summary>
internal sealed class Tally
{
    public long Inputs { get; set; }

    public long Accepted { get; set; }

    public long Bytes { get; set; }

    public double Seconds { get; set; }

    public double SlowestMs { get; set; }
}

/// <summary>
/// Runs the child process and gives every target the same time in batches. If the child dies or hangs, its present input is a finding, and the child
/// is replaced. The child's heap is limited, so that an allocation by an unchecked number fails.
/// </summary>
internal sealed class FuzzParent(FuzzOptions options, TextWriter log) : IDisposable
{
    private const int BatchMs = 500;
    private const long HeapLimit = 256L << 20;

    // Wall-time limit for a reader that waits. Otherwise the child's CPU time counts, because other load on the machine does not increase it.
    private static readonly TimeSpan s_wall = TimeSpan.FromMinutes(10);

    private readonly string _mailboxPath = Path.Combine(Path.GetTempPath(), $"tiller-fuzz-{Guid.NewGuid():N}.mailbox");
    private Mailbox? _mailbox;
    private Process? _child;
    private BlockingCollection<string> _lines = [];
    private StringWriter _errors = new();

    public Dictionary<string, Tally> Tallies { get; } = options.Targets.ToDictionary(t => t, _ => new Tally(), StringComparer.Ordinal);

    public Findings Findings { get; } = new(options.Out);

    public TimeSpan Elapsed { get; private set; }

    public int Children { get; private set; }

    public void Run(CancellationToken cancellationToken)
    {
        _mailbox = new Mailbox(_mailboxPath);
        var clock = Stopwatch.StartNew();
        var random = new Random(options.Seed);
        long done = 0;
        double told = 0;
        while (!cancellationToken.IsCancellationRequested && clock.Elapsed < options.Duration && done < options.Count
            && !(options.StopAtFinding && Findings.All.Count > 0))
        {
            string target = options.Targets.MinBy(t => Tallies[t].Seconds)!;
            Tally tally = Tallies[target];
            int count = tally.Inputs == 0 ? 500 : (int)Math.Clamp(BatchMs / 1000.0 * tally.Inputs / Math.Max(tally.Seconds, 1e-3), 100, 100_000);
            done += Batch(target, random.Next(), (int)Math.Min(count, options.Count - done));
            if (clock.Elapsed.TotalSeconds - told > 20)
            {
                told = clock.Elapsed.TotalSeconds;
                log.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{told:F0} s: {done:N0} inputs, {done / told:N0}/s, {Findings.All.Count} findings"));
            }
        }

        Stop();
        Elapsed = clock.Elapsed;
    }

    public void Dispose()
    {
        Stop();
        _mailbox?.Dispose();
        _lines.Dispose();
        _errors.Dispose();
        File.Delete(_mailboxPath);
    }

    private long Batch(string target, int seed, int count)
    {
        Process child = _child ?? Start();
        var clock = Stopwatch.StartNew();
        Tally tally = Tallies[target];
        child.StandardInput.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{target} {seed} {count}"));
        long watched = 0;
        TimeSpan watchedCpu = default;
        var watchedClock = new Stopwatch();
        while (true)
        {
            if (_lines.TryTake(out string? line, millisecondsTimeout: 100))
            {
                string[] parts = line.Split(line.StartsWith("done", StringComparison.Ordinal) ? ' ' : '\t');
                if (parts[0] == "done")
                {
                    tally.Seconds += clock.Elapsed.TotalSeconds;
                    tally.Inputs += count;
                    tally.Accepted += long.Parse(parts[2], CultureInfo.InvariantCulture);
                    tally.Bytes += long.Parse(parts[3], CultureInfo.InvariantCulture);
                    tally.SlowestMs = Math.Max(tally.SlowestMs, double.Parse(parts[4], CultureInfo.InvariantCulture));
                    return count;
                }

                if (parts is ["finding", var kind, var what, var detail, var input])
                {
                    Findings.Add(target, kind, what, $"batch seed {seed}: {detail}", Convert.FromBase64String(input));
                }

                continue;
            }

            long current = _mailbox!.Current;
            if (child.HasExited)
            {
                child.WaitForExit();
                string errors = _errors.ToString();
                if (current == 0)
                {
                    throw new InvalidOperationException($"The child ended with code {child.ExitCode} outside any input. {errors}");
                }

                Findings.Add(target, "crash", $"process ended with code {child.ExitCode}",
                    $"batch seed {seed}: {errors[..Math.Min(errors.Length, 4000)]}", _mailbox.Input);
                return Lost(tally, clock);
            }

            child.Refresh();
            if (current == 0 || current != watched)
            {
                (watched, watchedCpu) = (current, child.TotalProcessorTime);
                watchedClock.Restart();
                continue;
            }

            byte[] hanging = _mailbox.Input;
            double megabytes = Math.Max(1, hanging.Length / 1048576.0);
            bool hangs = child.TotalProcessorTime - watchedCpu > options.HangsAfter * megabytes || watchedClock.Elapsed > s_wall;
            if (_mailbox.Current == watched && hangs)
            {
                string what = $"more than {options.HangsAfter.TotalSeconds:0.###} s a megabyte";
                Findings.Add(target, "hang", what, $"batch seed {seed}: {hanging.Length} bytes", hanging);
                return Lost(tally, clock);
            }
        }
    }

    // Of an unfinished batch, only the input of the finding is counted.
    private int Lost(Tally tally, Stopwatch clock)
    {
        Stop();
        tally.Seconds += clock.Elapsed.TotalSeconds;
        tally.Inputs++;
        return 1;
    }

    private Process Start()
    {
        var start = new ProcessStartInfo("dotnet")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach (string argument in (string[])[typeof(FuzzParent).Assembly.Location, "child", "--corpus", options.Corpus, "--mailbox", _mailboxPath])
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["DOTNET_GCHeapHardLimit"] = HeapLimit.ToString("x", CultureInfo.InvariantCulture);
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        Children++;
        _lines = [];
        _errors = new StringWriter();
        var (lines, errors) = (_lines, _errors);
        _mailbox!.End();
        _child = Process.Start(start)!;
        _child.OutputDataReceived += (_, e) =>
        {
            if (e.Data is not null)
            {
                lines.Add(e.Data);
            }
        };
        _child.ErrorDataReceived += (_, e) =>
        {
            lock (errors)
            {
                errors.WriteLine(e.Data);
            }
        };
        _child.BeginOutputReadLine();
        _child.BeginErrorReadLine();
        return _child;
    }

    private void Stop()
    {
        if (_child is null)
        {
            return;
        }

        if (!_child.HasExited)
        {
            _child.Kill();
        }

        _child.WaitForExit();
        _child.Dispose();
        _child = null;
    }
}
