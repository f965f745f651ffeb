
namespace Tiller.Tests;

/// <summary>What is closed is freed once, by the last who uses it, and nobody begins after that.</summary>
public sealed class TurnTests
{
    private const int Threads = 4;

    [Test]
    public void What_is_closed_is_freed_when_the_last_use_ends()
    {
        int freed = 0;
        var lifetime = new Lifetime("Model", "The model is gone.", () => freed++);
        var first = lifetime.Enter();
        var second = lifetime.Enter();
        lifetime.Close();
        lifetime.Close();
        var late = Assert.Throws<ObjectDisposedException>(() => lifetime.Enter().Dispose())!;
        Assert.That((late.ObjectName, late.Message), Is.EqualTo(("Model", "The model is gone.\nObject name: 'Model'.")));
        first.Dispose();
        Assert.That(freed, Is.Zero);
        second.Dispose();
        lifetime.Close();
        Assert.That(freed, Is.EqualTo(1));
        Assert.That(lifetime.TryTake(), Is.False);
        Assert.That(freed, Is.EqualTo(1));
    }

    [Test]
    public void What_nobody_uses_is_freed_by_its_close()
    {
        int freed = 0;
        var lifetime = new Lifetime("Model", "gone", () => freed++);
        lifetime.Enter().Dispose();
        var turn = new Turn("Session", "session", "Do otherwise.", lifetime, () => freed++);
        turn.Enter().Dispose();
        turn.Close();
        Assert.That(freed, Is.EqualTo(1));
        lifetime.Close();
        Assert.That(freed, Is.EqualTo(2));
    }

    [Test]
    public void A_second_thread_is_told_what_to_do_and_the_same_one_goes_on()
    {
        int freed = 0;
        var turn = new Turn("Session", "session", "Do otherwise.", free: () => freed++);
        var call = turn.Enter();
        var part = turn.Enter();
        Assert.That((call.IsPart, part.IsPart), Is.EqualTo((false, true)));
        part.Dispose();
        var refused = Assert.Throws<InvalidOperationException>(() => OtherThread.Run(() => turn.Enter().Dispose()))!;
        Assert.That(refused.Message, Is.EqualTo("The session is in use by another thread, and one thread at a time may use it. Do otherwise."));
        refused = Assert.Throws<InvalidOperationException>(() => OtherThread.Run(() => turn.Take(3)))!;
        Assert.That(refused.Message, Does.StartWith("Session 3 is in use by another thread"));
        turn.Close();
        turn.Enter().Dispose(); // a part of the call under way
        Assert.That(() => OtherThread.Run(() => turn.Enter().Dispose()), Throws.TypeOf<ObjectDisposedException>());
        Assert.That(freed, Is.Zero);
        call.Dispose();
        Assert.That(freed, Is.EqualTo(1));
        var late = Assert.Throws<ObjectDisposedException>(() => turn.Enter().Dispose())!;
        Assert.That((late.ObjectName, late.Message),
            Is.EqualTo(("Session", "The session has been disposed of: make a new one.\nObject name: 'Session'.")));
        turn.Close();
        Assert.That(freed, Is.EqualTo(1));
    }

    [Test]
    public void A_call_within_what_is_closed_gives_the_turn_back()
    {
        var lifetime = new Lifetime("Model", "The model is gone.", () => { });
        var turn = new Turn("Session", "session", "Do otherwise.", lifetime);
        lifetime.Close();
        Assert.That(() => turn.Enter().Dispose(), Throws.TypeOf<ObjectDisposedException>().With.Message.Contains("The model is gone."));
        Assert.That(() => OtherThread.Run(() => turn.Take()), Throws.Nothing);
    }

    [Test]
    public void A_use_never_meets_what_has_been_freed()
    {
        for (int cycle = 0; cycle < 300; cycle++)
        {
            int freed = 0, uses = 0;
            var lifetime = new Lifetime("Model", "gone", () => Interlocked.Increment(ref freed));
            OtherThread.Together(Threads, thread =>
            {
                if (thread == 0)
                {
                    SpinWait.SpinUntil(() => Volatile.Read(ref uses) > cycle % 7, OtherThread.Guard);
                    lifetime.Close();
                    return;
                }

                while (lifetime.TryTake())
                {
                    Assert.That(Volatile.Read(ref freed), Is.Zero);
                    Interlocked.Increment(ref uses);
                    lifetime.Leave();
                }
            });
            Assert.That(freed, Is.EqualTo(1));
        }
    }

    [Test]
    public void Only_one_thread_at_a_time_has_a_turn_and_none_after_it_was_freed()
    {
        for (int cycle = 0; cycle < 300; cycle++)
        {
            int freed = 0, inside = 0, calls = 0, refused = 0;
            var turn = new Turn("Session", "session", "Do otherwise.", free: () => Interlocked.Increment(ref freed));
            OtherThread.Together(Threads, thread =>
            {
                if (thread == 0)
                {
                    SpinWait.SpinUntil(() => Volatile.Read(ref calls) > cycle % 7, OtherThread.Guard);
                    turn.Close();
                    return;
                }

                try
                {
                    while (true)
                    {
                        try
                        {
                            using var call = turn.Enter();
                            Assert.That(Interlocked.Increment(ref inside), Is.EqualTo(1));
                            Assert.That(Volatile.Read(ref freed), Is.Zero);
                            Interlocked.Increment(ref calls);
                            Interlocked.Decrement(ref inside);
                        }
                        catch (InvalidOperationException e) when (e is not ObjectDisposedException)
                        {
                            Interlocked.Increment(ref refused);
                        }
                    }
                }
                catch (ObjectDisposedException)
                {
                    // Closed.
                }
            });
            Assert.That(freed, Is.EqualTo(1));
        }
    }
}
