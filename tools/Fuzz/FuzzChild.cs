using System.Diagnostics;
using System.Globalization;
using FsCheck;
using FsCheck.Fluent;

namespace Tiller.Fuzz;

/// <summary>
/// The child process, which runs the readers. A line of standard input requests a batch (<c>target seed count</c>). The child makes the inputs from
/// the seed alone, and shows them to the parent through the mailbox. It answers with <c>finding</c> lines and then one <c>done</c> line.
/// </summary>
internal sealed class FuzzChild(IReadOnlyList<FuzzTarget> targets, Mailbox mailbox, TextWriter output)
{
    private const int Made = 400;
    private const int Kept = 32;

    // The memory that a reader may allocate for an input of n bytes. Tables by id may have 2 million entries for any length of the input.
    private const long AllocationBase = 96L << 20;
    private const long AllocationPerByte = 512;

    private long _number;

    public void Serve(TextReader input)
    {
        while (input.ReadLine() is { } line)
        {
            string[] parts = line.Split(' ');
            FuzzTarget target = targets.First(t => t.Name == parts[0]);
            Run(target, int.Parse(parts[1], CultureInfo.InvariantCulture), int.Parse(parts[2], CultureInfo.InvariantCulture));
        }
    }

    /// <summary>The outcome of one input: null if it was accepted, the typed exception of a refusal, or a finding.</summary>
    public static Exception? Read(FuzzTarget target, byte[] input)
    {
        try
        {
            target.Read(input);
            return null;
        }
        catch (Exception e)
        {
            return e;
        }
    }

    private void Run(FuzzTarget target, int seed, int count)
    {
        var random = new System.Random(seed);
        var mutation = new ByteMutation(target.Words, random);
        byte[][] made = [.. target.Structure.Sample(random.Next(5, 30), new Rnd((ulong)seed), Math.Min(Made, Math.Max(1, count / 6)))];
        var pool = new List<byte[]>(target.Seeds);
        int seeds = pool.Count;
        long accepted = 0, bytes = 0, slowest = 0;
        for (int i = 0; i < count; i++)
        {
            byte[] input;
            if (i < made.Length)
            {
                input = made[i];
            }
            else
            {
                byte[] source = Pick();
                input = mutation.Change(source, Pick());
                if (random.Next(4) > 0)
                {
                    input = target.Repair(input);
                }
            }

            mailbox.Begin(++_number, input);
            long start = Stopwatch.GetTimestamp();
            long before = GC.GetAllocatedBytesForCurrentThread();
            Exception? outcome = Read(target, input);
            long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            slowest = Math.Max(slowest, Stopwatch.GetTimestamp() - start);
            mailbox.End();
            bytes += input.Length;
            if (outcome is not (null or TillerException))
            {
                Tell(outcome is OutOfMemoryException ? "memory" : outcome is BrokenPromiseException ? "promise" : "exception", outcome, input);
            }
            else if (allocated > AllocationBase + (AllocationPerByte * input.Length))
            {
                Tell("memory", new BrokenPromiseException($"{allocated >> 20} MiB were allocated for {input.Length} bytes"), input);
            }
            else if (outcome is null)
            {
                accepted++;
                if (pool.Count < seeds + Kept)
                {
                    pool.Add(input);
                }
                else
                {
                    pool[seeds + random.Next(Kept)] = input;
                }
            }
        }

        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"done {count} {accepted} {bytes} {Stopwatch.GetElapsedTime(0, slowest).TotalMilliseconds:F3}"));

        byte[] Pick() => random.Next(5) == 0 ? made[random.Next(made.Length)] : pool[random.Next(pool.Count)];
    }

    private void Tell(string kind, Exception error, byte[] input)
    {
        string where = new StackTrace(error).GetFrames()
            .Select(f => f.GetMethod())
            .FirstOrDefault(m => m?.DeclaringType?.Namespace is { } space && space.StartsWith("Tiller.", StringComparison.Ordinal)
                && !space.StartsWith("Tiller.Fuzz", StringComparison.Ordinal))
            is { } method ? $"{method.DeclaringType!.Name}.{method.Name}" : error is BrokenPromiseException ? error.Message : "unknown";
        string text = error.ToString().ReplaceLineEndings(" | ");
        output.WriteLine($"finding\t{kind}\t{error.GetType().Name} "
            + $"in {where}\t{text[..Math.Min(text.Length, 2000)].Replace('\t', ' ')}\t{Convert.ToBase64String(input)}");
    }
}
