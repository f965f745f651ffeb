using System.Diagnostics;
using System.Globalization;

namespace Tiller.Fuzz;

/// <summary>
/// Kills a process that saves a controller and a trace in a loop (<see cref="SaveLoop"/>) at random moments. After each kill both files must be one
/// of the two written versions, byte for byte. After the next start no temporary file of a dead process may be left.
/// </summary>
internal sealed class KillRun(int seed)
{
    // One kill in this number must happen while a temporary file exists, and one in this number must change a version; otherwise the run proves
    // nothing.
    private const int Meets = 20;

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(5);

    /// <summary>Number of kills while a temporary file existed.</summary>
    public int InTheMiddle { get; private set; }

    /// <summary>Number of kills after which a file had another version than before.</summary>
    public int Replaced { get; private set; }

    /// <summary>Kills the given number of times, and continues up to ten times as often until enough kills have met a save.</summary>
    /// <exception cref="BrokenPromiseException">A file was mixed, or a temporary file was left.</exception>
    public void Run(int kills, CancellationToken cancellationToken = default)
    {
        var random = new Random(seed);
        DirectoryInfo folder = Directory.CreateTempSubdirectory("tiller-kill-");
        try
        {
            (string File, byte[][] Versions)[] files = [.. SaveLoop.Files.Select(f => (Path.Combine(folder.FullName, f), SaveLoop.Versions(f)))];
            int[] before = [.. files.Select(_ => -1)];
            TimeSpan latest = Latest(folder.FullName);
            for (int i = 0; i < kills || (i < 10 * kills && Math.Min(InTheMiddle, Replaced) < kills / Meets); i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                using Process child = Start(folder.FullName);
                WaitForLine(child);
                int[] foreign = [.. Temporaries(folder).Where(id => id != child.Id)];
                Thread.Sleep(random.NextDouble() * latest);
                child.Kill();
                child.WaitForExit();
                if (foreign.Length > 0)
                {
                    throw new BrokenPromiseException($"kill {i}, seed {seed}: a temporary file of the dead process {foreign[0]} was there after the "
                        + "next start.");
                }

                InTheMiddle += Temporaries(folder).Any() ? 1 : 0;
                for (int f = 0; f < files.Length; f++)
                {
                    byte[] content = File.ReadAllBytes(files[f].File);
                    int version = Array.FindIndex(files[f].Versions, v => v.AsSpan().SequenceEqual(content));
                    if (version < 0)
                    {
                        throw new BrokenPromiseException($"kill {i}, seed {seed}: {Path.GetFileName(files[f].File)} is neither "
                            + $"version: {content.Length} bytes.");
                    }

                    Replaced += version != before[f] ? 1 : 0;
                    before[f] = version;
                }
            }

            SaveLoop.SaveBoth(folder.FullName, version: 0);
            if (folder.GetFiles().Length != files.Length)
            {
                throw new BrokenPromiseException($"seed {seed}: temporary files are left after the last save.");
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    // The time that a new process needs for a few saves on this machine under its present load.
    private static TimeSpan Latest(string folder)
    {
        var clock = Stopwatch.StartNew();
        SaveLoop.SaveBoth(folder, version: 1);
        TimeSpan least = TimeSpan.FromMilliseconds(15), several = 10 * clock.Elapsed;
        return several > least ? several : least;
    }

    // Ids of the processes with temporary files in the folder.
    private static IEnumerable<int> Temporaries(DirectoryInfo folder) =>
        folder.EnumerateFiles("*.tmp").Select(f => int.Parse(f.Name.Split('.')[^2].Split('-')[0], CultureInfo.InvariantCulture));

    private static void WaitForLine(Process child)
    {
        Task<string?> line = child.StandardOutput.ReadLineAsync();
        if (!line.Wait(s_patience) || line.Result != SaveLoop.Ready)
        {
            string error = child.HasExited ? child.StandardError.ReadToEnd() : "it says nothing";
            throw new InvalidOperationException($"The saving process did not start: {error}");
        }
    }

    private static Process Start(string folder)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        start.Environment["DOTNET_TieredPGO"] = "0";
        foreach (string argument in (string[])[typeof(KillRun).Assembly.Location, "save", "--folder", folder])
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }
}
