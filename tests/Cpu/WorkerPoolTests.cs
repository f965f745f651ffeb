using System.Runtime.InteropServices;
using Tiller.Bench;
using Tiller.Cpu;

namespace Tiller.Tests.Cpu;

/// <summary>Every part of every loop runs once, whoever shares the pool, and nothing waits for ever.</summary>
public sealed unsafe partial class WorkerPoolTests
{
    [TestCase(1)]
    [TestCase(2)]
    [TestCase(3)]
    [TestCase(7)]
    public void Many_callers_at_once_get_each_part_exactly_once(int threads)
    {
        const int Callers = 8, Loops = 2000;
        using var pool = new WorkerPool(threads);
        var failures = new int[Callers];
        RunAll(Callers, caller =>
        {
            var random = new Random(caller);
            int[] counts = new int[40];
            for (int loop = 0; loop < Loops; loop++)
            {
                int parts = random.Next(0, counts.Length);
                Array.Clear(counts);
                Count(pool, parts, counts);
                failures[caller] += counts.Where((n, i) => n != (i < parts ? 1 : 0)).Count();
            }
        });
        Assert.That(failures, Is.All.Zero);
    }

    [Test]
    public void More_loops_than_slots_still_run_each_part_once()
    {
        // 100 callers wait inside a part of their own loop until all of them are inside, so 100 loops are open together.
        const int Callers = 100;
        using var pool = new WorkerPool(3);
        using var inside = new CountdownEvent(Callers);
        var counts = new int[Callers][];
        RunAll(Callers, caller =>
        {
            counts[caller] = new int[5];
            fixed (int* p = counts[caller])
            {
                var job = new Job { Counts = p, Gate = inside, Entered = new int[1] };
                pool.Run(5, ref job, &Meet);
            }
        });
        Assert.That(counts.SelectMany(c => c), Is.All.EqualTo(1));
    }

    [Test]
    public void A_part_may_run_a_loop_of_its_own()
    {
        using var pool = new WorkerPool(3);
        for (int round = 0; round < 200; round++)
        {
            int[] counts = new int[64];
            fixed (int* p = counts)
            {
                var job = new Job { Counts = p, Pool = pool };
                pool.Run(8, ref job, &Nested);
            }

            Assert.That(counts, Is.All.EqualTo(1));
        }
    }

    [Test]
    public void A_loop_within_a_part_stays_on_its_thread_while_all_threads_are_in_parts()
    {
        RunAll(1, _ =>
        {
            using var pool = new WorkerPool(2);
            using var inside = new CountdownEvent(2);
            int[] threads = new int[8];
            int ended = 0;
            fixed (int* p = threads)
            {
                var job = new Job { Counts = p, Gate = inside, Pool = pool, Running = &ended, Caller = Environment.CurrentManagedThreadId };
                pool.Run(2, ref job, &MeetAndNestOnTheCaller);
            }

            Assert.That(threads, Is.All.EqualTo(Environment.CurrentManagedThreadId));
            Assert.That(pool.OpenedByCallers, Is.EqualTo(1), "the outer loop");
        });
    }

    [Test]
    public void A_loop_within_a_part_is_shared_with_an_idle_thread()
    {
        RunAll(1, _ =>
        {
            // Two threads are in the outer loop, and the third one has nothing to do. Each inner loop has parts for two threads.
            using var pool = new WorkerPool(3);
            using var inside = new CountdownEvent(2);
            int[] counts = new int[1];
            int ended = 0;
            fixed (int* p = counts)
            {
                var job = new Job { Counts = p, Gate = inside, Pool = pool, Running = &ended, Caller = Environment.CurrentManagedThreadId };
                pool.Run(2, ref job, &MeetAndNestUntilShared);
            }

            Assert.That(counts[0], Is.Positive);
        });
    }

    [Test]
    public void A_caller_takes_parts_of_loops_within_the_parts_that_it_waits_for()
    {
        RunAll(1, _ =>
        {
            using var pool = new WorkerPool(2);
            int[] counts = new int[1];
            long loops = 0;
            fixed (int* p = counts)
            {
                // A caller that has waited for a while sleeps, so that it may take a few outer loops.
                var job = new Job { Counts = p, Pool = pool, Caller = Environment.CurrentManagedThreadId };
                for (int tries = 0; counts[0] == 0; tries++)
                {
                    Assert.That(tries, Is.LessThan(100_000), "the caller never helped");
                    using var inside = new CountdownEvent(2);
                    job.Gate = inside;
                    pool.Run(2, ref job, &MeetAndNestOnTheWorker);
                    loops++;
                }
            }

            Assert.That(pool.OpenedByCallers, Is.EqualTo(loops), "the outer loops; a worker is not in the way of loops that it has opened itself");
        });
    }

    [Test]
    public void Work_after_a_pause_wakes_the_sleepers()
    {
        const int Threads = 3;
        using var pool = new WorkerPool(Threads);
        RunAll(1, _ =>
        {
            for (int round = 0; round < 5; round++)
            {
                Sleep(pool);
                RunPartsThatMeet(pool, Threads);
            }
        });
    }

    [TestCase(2)]
    [TestCase(5)]
    public void A_thread_works_on_the_same_parts_in_every_loop(int threads)
    {
        RunAll(1, _ =>
        {
            using var pool = new WorkerPool(threads);
            int[] first = new int[threads], again = new int[threads];
            ThreadsOfPartsThatMeet(pool, first);
            Assert.That(first[0], Is.EqualTo(Environment.CurrentManagedThreadId), "the caller has the first share");
            for (int round = 0; round < 20; round++)
            {
                ThreadsOfPartsThatMeet(pool, again);
                Assert.That(again, Is.EqualTo(first));
            }
        });
    }

    [TestCase(2)]
    [TestCase(5)]
    public void The_parts_of_a_thread_that_is_held_up_are_taken_by_the_others(int threads)
    {
        RunAll(1, _ =>
        {
            using var pool = new WorkerPool(threads);
            for (int held = 0; held < threads; held++)
            {
                int[] counts = new int[10 * threads];
                int ended = 0;
                fixed (int* p = counts)
                {
                    // The first part of each share in turn.
                    var job = new Job { Counts = p, Running = &ended, Seed = 10 * held, Parts = counts.Length };
                    pool.Run(counts.Length, ref job, &UntilAllOthersHaveEnded);
                }

                Assert.That(counts, Is.All.EqualTo(1));
            }
        });
    }

    [Test]
    public void A_caller_whose_last_part_takes_long_elsewhere_sleeps_and_is_woken_by_its_end()
    {
        RunAll(1, _ =>
        {
            using var pool = new WorkerPool(2);
            for (int round = 0; round < 20; round++)
            {
                using var inside = new CountdownEvent(2);
                int[] counts = new int[2];
                fixed (int* p = counts)
                {
                    var job = new Job { Counts = p, Gate = inside, Pool = pool, Caller = Environment.CurrentManagedThreadId };
                    pool.Run(2, ref job, &LastUntilTheCallerSleeps);
                }

                Assert.That(counts, Is.All.EqualTo(1));
                Assert.That(pool.CallersAsleep, Is.Zero);
            }
        });
    }

    [Test]
    public void A_worker_leaves_the_parts_of_a_caller_on_its_own_processor_to_the_caller()
    {
        RunOnOneProcessor(threads: 2, pool =>
        {
            int[] counts = new int[50];
            fixed (int* p = counts)
            {
                // The first part is the caller's, or else the worker has not gone aside when it should have, and waits for ever.
                var job = new Job { Counts = p, Pool = pool, Aside = pool.WentAside };
                pool.Run(counts.Length, ref job, &UntilTheWorkerGoesAside);
            }

            Assert.That(counts, Is.All.EqualTo(1));
        });
    }

    [Test]
    public void A_caller_that_waits_within_a_part_for_another_part_gets_help_on_its_own_processor()
    {
        RunOnOneProcessor(threads: 3, pool =>
        {
            long before = pool.WentAside;
            for (int round = 0; round < 3; round++)
            {
                RunPartsThatMeet(pool, pool.Threads);
            }

            Assert.That(pool.WentAside, Is.GreaterThan(before));
        });
    }

    [TestCase(2)]
    [TestCase(5)]
    public void Parts_of_any_length_have_all_ended_when_their_loop_returns(int threads)
    {
        const int Callers = 4, Loops = 150, Parts = 24;
        using var pool = new WorkerPool(threads);
        RunAll(Callers, caller =>
        {
            int[] counts = new int[Parts];
            fixed (int* p = counts)
            {
                for (int loop = 0; loop < Loops; loop++)
                {
                    Array.Clear(counts);
                    int running = 0;
                    var job = new Job { Counts = p, Running = &running, Seed = (caller * Loops) + loop };
                    pool.Run(Parts, ref job, &Delay);
                    Assert.That(running, Is.Zero, "a part still runs");
                    Assert.That(counts, Is.All.EqualTo(1));
                }
            }
        });
        Assert.That(pool.CallersAsleep, Is.Zero);
    }

    [Test]
    public void Disposal_ends_the_threads_asleep_or_awake_and_may_be_repeated()
    {
        RunAll(1, _ =>
        {
            for (int round = 0; round < 50; round++)
            {
                var pool = new WorkerPool(4);
                if (round % 2 == 0)
                {
                    Count(pool, 8, new int[8]);
                }

                if (round % 10 == 9)
                {
                    Sleep(pool);
                }

                pool.Dispose();
                pool.Dispose();
            }
        });
    }

    [Test]
    public void Disposal_while_loops_close_does_not_hang()
    {
        RunAll(1, _ =>
        {
            for (int round = 0; round < 200; round++)
            {
                var pool = new WorkerPool(3);
                int done = 0;
                var caller = new Thread(() =>
                {
                    int[] counts = new int[4];
                    for (int loop = 0; loop < 50; loop++)
                    {
                        Array.Clear(counts);
                        Count(pool, counts.Length, counts);
                        done += counts.Sum();
                    }
                });
                caller.Start();
                pool.Dispose();
                caller.Join();
                Assert.That(done, Is.EqualTo(200));
            }
        });
    }

    [TestCase(1)]
    [TestCase(4)]
    public void A_cancelled_loop_begins_no_further_part_and_the_next_runs_whole(int threads)
    {
        const int Parts = 100_000;
        using var pool = new WorkerPool(threads);
        int[] counts = new int[Parts];
        for (int round = 0; round < 50; round++)
        {
            using var source = new CancellationTokenSource();
            Array.Clear(counts);
            fixed (int* p = counts)
            {
                var job = new Job { Counts = p, Source = source };
                pool.Run(Parts, ref job, &CancelAtTen, source.Token);
            }

            Assert.That(counts, Is.All.LessThanOrEqualTo(1));
            Assert.That(counts.Sum(), Is.InRange(11, 11 + threads - 1));
            Array.Clear(counts);
            Count(pool, 500, counts);
            Assert.That(counts.Sum(), Is.EqualTo(500));
        }

        Array.Clear(counts);
        fixed (int* p = counts)
        {
            var job = new Job { Counts = p };
            pool.Run(Parts, ref job, &CountOne, new CancellationToken(canceled: true));
        }

        Assert.That(counts.Sum(), Is.Zero, "cancelled before it began");
    }

    [Test]
    public void A_negative_number_of_threads_is_refused() => Assert.That(() => new WorkerPool(-1), Throws.InstanceOf<ArgumentOutOfRangeException>());

    private static void Count(WorkerPool pool, int parts, int[] counts)
    {
        fixed (int* p = counts)
        {
            var job = new Job { Counts = p };
            pool.Run(parts, ref job, &CountOne);
        }
    }

    private static void CountOne(ref Job job, int part) => Interlocked.Increment(ref job.Counts[part]);

    private static void CancelAtTen(ref Job job, int part)
    {
        CountOne(ref job, part);
        if (part == 10)
        {
            job.Source!.Cancel();
        }
        else if (part > 10)
        {
            // However late the thread of part 10 comes to it: a thread has at most one part more by then.
            job.Source!.Token.WaitHandle.WaitOne(Patience.Limit);
        }
    }

    private static void Meet(ref Job job, int part)
    {
        Interlocked.Increment(ref job.Counts[part]);
        if (Interlocked.Exchange(ref job.Entered![0], 1) == 0)
        {
            job.Gate!.Signal();
            job.Gate.Wait();
        }
    }

    // Each part waits until all of them have begun, which takes a thread for each.
    private static void RunPartsThatMeet(WorkerPool pool, int threads)
    {
        using var inside = new CountdownEvent(threads);
        int[] counts = new int[threads];
        fixed (int* p = counts)
        {
            var job = new Job { Counts = p, Gate = inside };
            pool.Run(threads, ref job, &MeetAll);
        }

        Assert.That(counts, Is.All.EqualTo(1));
    }

    private static void ThreadsOfPartsThatMeet(WorkerPool pool, int[] threads)
    {
        using var inside = new CountdownEvent(threads.Length);
        fixed (int* p = threads)
        {
            var job = new Job { Counts = p, Gate = inside };
            pool.Run(threads.Length, ref job, &NoteThreadAndMeet);
        }
    }

    private static void NoteThreadAndMeet(ref Job job, int part)
    {
        job.Counts[part] = Environment.CurrentManagedThreadId;
        job.Gate!.Signal();
        job.Gate.Wait();
    }

    private static void UntilAllOthersHaveEnded(ref Job job, int part)
    {
        CountOne(ref job, part);
        int* ended = job.Running;
        if (part == job.Seed)
        {
            int others = job.Parts - 1;
            Patience.Until(() => Volatile.Read(ref *ended) == others, "all other parts ended");
        }

        Interlocked.Increment(ref *ended);
    }

    private static void MeetAll(ref Job job, int part)
    {
        Interlocked.Increment(ref job.Counts[part]);
        job.Gate!.Signal();
        job.Gate.Wait();
    }

    private static void MeetAndNestOnTheCaller(ref Job job, int part)
    {
        job.Gate!.Signal();
        job.Gate.Wait();
        int* ended = job.Running;
        if (Environment.CurrentManagedThreadId == job.Caller)
        {
            for (int loop = 0; loop < 100; loop++)
            {
                var inner = new Job { Counts = job.Counts };
                job.Pool!.Run(8, ref inner, &NoteThread);
            }

            Volatile.Write(ref *ended, 1);
        }

        Patience.Until(() => Volatile.Read(ref *ended) == 1, "the caller's loops ended");
    }

    private static void MeetAndNestUntilShared(ref Job job, int part)
    {
        job.Gate!.Signal();
        job.Gate.Wait();
        int* ended = job.Running, shared = job.Counts;
        if (Environment.CurrentManagedThreadId == job.Caller)
        {
            var pool = job.Pool!;
            int caller = job.Caller;
            Patience.Until(
                () =>
                {
                    var inner = new Job { Counts = shared, Caller = caller };
                    pool.Run(2, ref inner, &CountIfElsewhere);
                    return Volatile.Read(ref *shared) > 0;
                },
                "a part elsewhere");
            Volatile.Write(ref *ended, 1);
        }

        Patience.Until(() => Volatile.Read(ref *ended) == 1, "the caller's loops ended");
    }

    private static void MeetAndNestOnTheWorker(ref Job job, int part)
    {
        job.Gate!.Signal();
        job.Gate.Wait();
        for (int loop = 0; Environment.CurrentManagedThreadId != job.Caller && loop < 20; loop++)
        {
            var inner = new Job { Counts = job.Counts, Caller = Environment.CurrentManagedThreadId };
            job.Pool!.Run(2, ref inner, &CountIfElsewhere);
        }
    }

    private static void NoteThread(ref Job job, int part) => job.Counts[part] = Environment.CurrentManagedThreadId;

    // Else the thread that wakes it may find it on its own processor, where it waits for its turn.
    [Test]
    public void A_worker_is_tied_to_a_processor_while_it_sleeps_and_free_while_it_works()
    {
        if (!OperatingSystem.IsLinux() || Environment.ProcessorCount < 2)
        {
            Assert.Ignore("only on Linux, and only beside others, is a thread tied to a processor");
        }

        int all = AllowedProcessors(ThreadId());
        Assert.That(all, Is.GreaterThan(1));
        using var pool = new WorkerPool(2);
        for (int round = 0; round < 3; round++)
        {
            // It stays free if it falls asleep where the caller opened its last loop.
            Patience.Until(
                () =>
                {
                    var (worker, processors) = AtWork(pool);
                    Assert.That(processors, Is.EqualTo(all), "processors of the worker at work");
                    Sleep(pool);
                    return AllowedProcessors(worker) == 1;
                },
                "the worker tied while it sleeps");
        }
    }

    [Test]
    public void A_place_to_sleep_gives_the_processors_of_before_back_unless_somebody_has_changed_them()
    {
        if (!OperatingSystem.IsLinux() || Environment.ProcessorCount < 2)
        {
            Assert.Ignore("only on Linux, and only beside others, is a thread tied to a processor");
        }

        RunAll(1, _ =>
        {
            ulong* before = stackalloc ulong[Affinity.Words];
            ulong* now = stackalloc ulong[Affinity.Words];
            Assert.That(Affinity.Get(before), Is.True);
            int first = Enumerable.Range(0, Affinity.Processors).First(i => Affinity.Has(before, i));
            int other = Enumerable.Range(first + 1, Affinity.Processors - first - 1).First(i => Affinity.Has(before, i));
            var place = default(SleepingPlace);
            place.Tie(first);
            Assert.That(AllowedProcessors(ThreadId()), Is.EqualTo(1));
            place.Untie();
            Assert.That(
                Affinity.Get(now) && new Span<ulong>(now, Affinity.Words).SequenceEqual(new Span<ulong>(before, Affinity.Words)), Is.True,
                "the processors of before");

            place.Tie(first);
            Affinity.Set(other);
            place.Untie();
            Assert.That(Affinity.Get(now) && Affinity.Has(now, other) && Affinity.Count(now) == 1, Is.True, "where it was moved meanwhile");
        });
    }

    // The thread of a worker that runs a part, and the number of processors on which it may run then.
    private static (int Worker, int Processors) AtWork(WorkerPool pool)
    {
        int* found = stackalloc int[2];
        var job = new Job { Counts = found, Caller = Environment.CurrentManagedThreadId };
        pool.Run(2, ref job, &WhoIsElsewhere);
        return (found[0], found[1]);
    }

    private static void WhoIsElsewhere(ref Job job, int part)
    {
        var counts = job.Counts;
        if (Environment.CurrentManagedThreadId != job.Caller)
        {
            counts[1] = AllowedProcessors(ThreadId());
            Volatile.Write(ref counts[0], ThreadId());
            return;
        }

        Patience.Until(() => Volatile.Read(ref counts[0]) != 0, "the other part on the worker");
    }

    private static int AllowedProcessors(int thread) => File.ReadLines($"/proc/self/task/{thread}/status")
        .First(line => line.StartsWith("Cpus_allowed:", StringComparison.Ordinal)).Split(':')[1]
        .Sum(digit => char.IsAsciiHexDigit(digit) ? int.PopCount(Convert.ToInt32(digit.ToString(), 16)) : 0);

    [LibraryImport("libc", EntryPoint = "gettid")]
    private static partial int ThreadId();

    private static void CountIfElsewhere(ref Job job, int part)
    {
        Thread.SpinWait(100);
        if (Environment.CurrentManagedThreadId != job.Caller)
        {
            Interlocked.Increment(ref job.Counts[0]);
        }
    }

    private static void UntilTheWorkerGoesAside(ref Job job, int part)
    {
        CountOne(ref job, part);
        if (part == 0)
        {
            var pool = job.Pool!;
            long before = job.Aside;
            Patience.Until(() => pool.WentAside > before, "the worker aside");
        }
    }

    private static void LastUntilTheCallerSleeps(ref Job job, int part)
    {
        MeetAll(ref job, part);
        if (Environment.CurrentManagedThreadId != job.Caller)
        {
            var pool = job.Pool!;
            Patience.Until(() => pool.CallersAsleep == 1, "the caller asleep");
        }
    }

    private static void Delay(ref Job job, int part)
    {
        Interlocked.Increment(ref *job.Running);
        var random = new Random((1000 * job.Seed) + part);
        switch (random.Next(12))
        {
            case 0:
                Thread.Sleep(random.Next(3));
                break;
            case 1:
                Thread.Yield();
                break;
            default:
                Thread.SpinWait(random.Next(2000));
                break;
        }

        CountOne(ref job, part);
        Interlocked.Decrement(ref *job.Running);
    }

    private static void Sleep(WorkerPool pool) => Patience.Until(() => pool.Asleep == pool.Threads - 1, "all workers asleep");

    private static void Nested(ref Job job, int part)
    {
        var inner = new Job { Counts = job.Counts + (8 * part) };
        job.Pool!.Run(8, ref inner, &CountOne);
    }

    // Ties all threads of a pool to one processor. A thread does not inherit that from the thread that starts it, because .NET undoes it.
    private static void RunOnOneProcessor(int threads, Action<WorkerPool> body)
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("only on Linux is a thread tied to a processor");
        }

        RunAll(1, _ =>
        {
            using var pool = new WorkerPool(threads);
            using var inside = new CountdownEvent(threads);
            int[] counts = new int[threads];
            fixed (int* p = counts)
            {
                var job = new Job { Counts = p, Gate = inside };
                pool.Run(threads, ref job, &TieWhereAllMeet);
            }

            body(pool);
        });
    }

    private static void TieWhereAllMeet(ref Job job, int part)
    {
        MeetAll(ref job, part);
        Processors.Tie(0);
        int processor = CurrentProcessor();

        // .NET remembers a thread's processor for some calls.
        Patience.Until(() => Thread.GetCurrentProcessorId() == processor, "the thread on its processor");
    }

    [LibraryImport("libc", EntryPoint = "sched_getcpu")]
    private static partial int CurrentProcessor();

    /// <summary>Runs the bodies on threads of their own and fails if they are not done in time.</summary>
    private static void RunAll(int count, Action<int> body)
    {
        var errors = new Exception?[count];
        Thread[] threads = [.. Enumerable.Range(0, count).Select(i => new Thread(() =>
        {
            try
            {
                body(i);
            }
            catch (Exception e)
            {
                errors[i] = e;
            }
        }) { IsBackground = true })];
        foreach (var thread in threads)
        {
            thread.Start();
        }

        foreach (var thread in threads)
        {
            Assert.That(thread.Join(Patience.Limit), "a thread did not come back");
        }

        Assert.That(errors, Is.All.Null);
    }

    private struct Job
    {
        public long Aside;
        public int* Counts;
        public WorkerPool? Pool;
        public CancellationTokenSource? Source;
        public CountdownEvent? Gate;
        public int[]? Entered;
        public int Caller;
        public int Seed;
        public int Parts;
        public int* Running;
    }
}
