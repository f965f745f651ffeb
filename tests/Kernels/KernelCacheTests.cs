using System.Runtime.Versioning;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class KernelCacheTests
{
    private static readonly byte[] s_image = [.. Enumerable.Range(0, 3000).Select(i => (byte)(i * 7))];

    [Test]
    public void WhatWasKeptIsRead()
    {
        using var folder = new ImageFolder();
        var cache = KernelCache.Open(Path.Combine(folder.Path, "a", "b"));
        Assert.That(cache.Read("x"), Is.Null);
        cache.Write("x", s_image);
        Assert.That(KernelCache.Open(cache.Folder).Read("x"), Is.EqualTo(s_image));
        cache.Write("x", [1]);
        Assert.That(cache.Read("x"), Is.EqualTo(new byte[] { 1 }));
        Assert.That(Directory.GetFiles(cache.Folder!), Has.Length.EqualTo(1));
        Assert.That((cache.Problem, cache.Damaged), Is.EqualTo(((string?)null, 0)));
    }

    [Test]
    [UnsupportedOSPlatform("windows")]
    [Platform(Exclude = "Win", Reason = "Unix file modes")]
    public void ANewFolderIsItsOwnersAlone()
    {
        using var folder = new ImageFolder();
        var cache = KernelCache.Open(folder["new"]);
        cache.Write("x", s_image);
        Assert.That(File.GetUnixFileMode(cache.Folder!), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute));
    }

    [Test]
    public void EveryByteOfAnEntryIsChecked()
    {
        using var folder = new ImageFolder();
        var cache = KernelCache.Open(folder.Path);
        cache.Write("x", s_image.AsSpan(0, 64));
        byte[] entry = File.ReadAllBytes(folder["x"]);
        for (int i = 0; i < entry.Length; i++)
        {
            byte[] flipped = [.. entry];
            flipped[i] ^= 4;
            File.WriteAllBytes(folder["x"], flipped);
            Assert.That(cache.Read("x"), Is.Null, $"byte {i}");
            File.WriteAllBytes(folder["x"], entry[..i]);
            Assert.That(cache.Read("x"), Is.Null, $"length {i}");
        }

        File.WriteAllBytes(folder["x"], [.. entry, 0]);
        Assert.That(cache.Read("x"), Is.Null);
        Assert.That(cache.Damaged, Is.EqualTo(2 * entry.Length + 1));
        cache.Write("x", s_image);
        Assert.That(cache.Read("x"), Is.EqualTo(s_image));
    }

    [Test]
    public void AFolderThatCannotBeUsedIsToldAndIsNoError()
    {
        using var folder = new ImageFolder();
        File.WriteAllText(folder["file"], "");
        var cache = KernelCache.Open(Path.Combine(folder["file"], "below"));
        Assert.That(cache.Read("x"), Is.Null);
        cache.Write("x", s_image);
        Assert.That(cache.Problem, Does.Contain("cannot be").And.Contain(folder["file"]));
        Assert.That(folder.Entries, Is.EqualTo(["file"]));
    }

    [Test]
    public void OffIsNoCache()
    {
        var cache = KernelCache.Open("off");
        cache.Write("x", s_image);
        Assert.That((cache.Folder, cache.Read("x"), cache.Problem), Is.EqualTo(((string?)null, (byte[]?)null, (string?)null)));
    }

    [TestCase("TILLER_KERNEL_CACHE", "/somewhere/else", ExpectedResult = "/somewhere/else")]
    [TestCase("XDG_CACHE_HOME", "/caches", ExpectedResult = "/caches/tiller/kernels")]
    [TestCase("XDG_CACHE_HOME", "relative", ExpectedResult = "/home/someone/.cache/tiller/kernels")]
    [TestCase("HOME", "/home/other", ExpectedResult = "/home/other/.cache/tiller/kernels")]
    [TestCase("HOME", "", ExpectedResult = null)]
    [NonParallelizable]
    [Platform(Exclude = "Win", Reason = "Unix paths")]
    public string? TheFolderIsWhereTheUserKeepsCaches(string variable, string value)
    {
        (string Name, string? Value)[] variables = [("TILLER_KERNEL_CACHE", null), ("XDG_CACHE_HOME", null), ("HOME", "/home/someone")];
        string?[] before = [.. variables.Select(v => Environment.GetEnvironmentVariable(v.Name))];
        try
        {
            foreach (var (name, standard) in variables)
            {
                Environment.SetEnvironmentVariable(name, name == variable ? value : standard);
            }

            var cache = KernelCache.Open(null);
            Assert.That(cache.Problem is null, Is.EqualTo(cache.Folder is not null));
            return cache.Folder;
        }
        finally
        {
            foreach (var (v, old) in variables.Zip(before))
            {
                Environment.SetEnvironmentVariable(v.Name, old);
            }
        }
    }

    [Test]
    public void WritersAndReadersAtOnceSeeWholeEntries()
    {
        using var folder = new ImageFolder();
        byte[][] images = [.. Enumerable.Range(1, 4).Select(i => s_image.AsSpan(0, i * 700).ToArray())];
        KernelCache[] caches = [.. Enumerable.Range(0, 8).Select(_ => KernelCache.Open(folder.Path))];
        caches[0].Write("x", images[0]);
        int read = 0;
        Parallel.For(0, 400, new ParallelOptions { MaxDegreeOfParallelism = 8 }, i =>
        {
            var cache = caches[i % caches.Length];
            if (i % 3 == 0)
            {
                cache.Write("x", images[i % images.Length]);
            }
            else
            {
                byte[] image = cache.Read("x")!;
                Assert.That(images.Any(known => known.AsSpan().SequenceEqual(image)), Is.True);
                Interlocked.Increment(ref read);
            }
        });
        Assert.That(read, Is.GreaterThan(200));
        Assert.That(caches, Has.All.Matches<KernelCache>(c => c!.Problem is null && c.Damaged == 0));
        Assert.That(folder.Entries, Is.EqualTo(["x"]));
    }

    [Test]
    public void TemporaryFilesOfKilledProcessesGo()
    {
        using var folder = new ImageFolder();
        File.WriteAllText(folder[".x.1-old.tmp"], "");
        File.SetLastWriteTimeUtc(folder[".x.1-old.tmp"], DateTime.UtcNow - TimeSpan.FromHours(2));
        File.WriteAllText(folder[".x.2-new.tmp"], "");
        KernelCache.Open(folder.Path).Write("y", s_image);
        Assert.That(folder.Entries, Is.EqualTo([".x.2-new.tmp", "y"]));
    }
}
