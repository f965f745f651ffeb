using System.Text;
using System.Text.RegularExpressions;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

public partial class KernelLibraryTests : HostCudaTest
{
    private const string Host = "NVRTC 13.99 for sm_90a";

    private static KernelLibraryOptions Here => new() { Sources = ImageFolder.TestSources };

    [Test]
    public void EveryKernelOfTheSourcesCanBeGot()
    {
        using var context = new PrimaryContext();
        foreach (KernelSources sources in new[] { ImageFolder.TestSources, KernelSources.BuiltIn })
        {
            using var library = new KernelLibrary(context, new KernelLibraryOptions { Sources = sources });
            Assert.That(library.Names.Select(name => library.Get(name).Name), Is.EquivalentTo(sources.Kernels.Keys));
            Assert.That(library.Context, Is.SameAs(context));
        }
    }

    [Test]
    public void KernelsAreNamedByLinesAndByMacrosThatEndInOne()
    {
        const string Source = """
            // TILLER_KERNEL(comment)
            #define NAMED(name, W) \
                extern "C" __global__ void name(int n) { work<W>(n); } \
                TILLER_KERNEL(name)
            #define OTHER(name) work(name)
            TILLER_KERNEL(a)
              TILLER_KERNEL(b)
            NAMED(c, 1)
            NAMED(d, 2)
            OTHER(e)
            """;
        Assert.That(Of(("a.cu", Encoding.UTF8.GetBytes(Source))).Kernels.Keys, Is.EquivalentTo(["a", "b", "c", "d"]));
        Assert.That(KernelSources.BuiltIn.Files,
            Is.All.Matches<string>(file => KernelSources.BuiltIn.Kernels.Values.Contains(file, StringComparer.Ordinal)));
    }

    [Test]
    public void AFileIsLoadedWhenItsFirstKernelIsAskedFor()
    {
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, Here);
        long alive = HostCuda.LiveAllocations;
        CudaKernel add = library.Get("tillerTestVectorAdd");
        Assert.That(HostCuda.LiveAllocations, Is.EqualTo(alive + 1));
        library.Get("tillerTestStore");
        Assert.That(library.Get("tillerTestVectorAdd"), Is.SameAs(add));
        Assert.That(HostCuda.LiveAllocations, Is.EqualTo(alive + 1), "one module for one file");
        library.LoadAll();
        Assert.That(HostCuda.LiveAllocations, Is.EqualTo(alive + 3));
        Assert.That(library.Origin, Is.EqualTo($"{Host}, no cache, 3 compiled"));
        library.Dispose();
        Assert.That(HostCuda.LiveAllocations, Is.EqualTo(alive));
        Assert.That(() => library.Get("tillerTestVectorAdd"), Throws.TypeOf<ObjectDisposedException>());
    }

    [Test]
    public void LoadedKernelsMayBeGotAndLaunchedInACaptureAndOthersNot()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var library = new KernelLibrary(context, Here);
        using var x = new CudaDeviceVariable<float>(context, 4);
        x.ClearAsync(stream);
        Assert.That(() => stream.Capture(() => library.Get("tillerTestVectorAdd")), Throws.TypeOf<CudaException>().With.Property("Code")
            .EqualTo(900));
        library.LoadAll();
        using CudaGraph graph = stream.Capture(() => CudaKernelTests.Add(library.Get("tillerTestVectorAdd"), stream, x.DevicePointer, x.DevicePointer,
            x.DevicePointer, 1, 4));
        Assert.That(graph.NodeCount, Is.EqualTo(1));
    }

    [Test]
    public void AnUnknownKernelIsTold()
    {
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, Here);
        Assert.That(() => library.Get("tillerTestNothing"), Throws.ArgumentException.With.Message.Contains("TILLER_KERNEL(tillerTestNothing)"));
    }

    [Test]
    public void WhatWasCompiledOnceIsReadFromTheCache()
    {
        using var folder = new ImageFolder();
        using var context = new PrimaryContext();
        KernelLibraryOptions options = Here with { CacheFolder = folder.Path };
        Assert.That(Origin(context, options), Is.EqualTo($"{Host}, 0 files from the cache {folder.Path}, 3 compiled"));
        Assert.That(Origin(context, options), Is.EqualTo($"{Host}, 3 files from the cache {folder.Path}, 0 compiled"));
        Assert.That(folder.Entries.Select(e => e[..e.IndexOf('.', StringComparison.Ordinal)]), Is.EqualTo(["block_sum", "transpose", "vector_add"]));
        Assert.That(folder.Entries, Has.All.Contains(".sm_90a."));
    }

    [Test]
    public void ADamagedEntryIsCompiledAgain()
    {
        using var folder = new ImageFolder();
        using var context = new PrimaryContext();
        KernelLibraryOptions options = Here with { CacheFolder = folder.Path };
        Origin(context, options);
        File.WriteAllText(folder[folder.Entries[0]], "TILLER HOST CUDA IMAGE block_sum.cu");
        File.WriteAllText(folder[folder.Entries[1]], "");
        Assert.That(Origin(context, options),
            Is.EqualTo($"{Host}, 1 files from the cache {folder.Path}, 2 compiled, 2 of them damaged in the cache"));
        Assert.That(Origin(context, options), Does.EndWith("3 files from the cache " + folder.Path + ", 0 compiled"));
    }

    [Test]
    public void ACacheThatCannotBeWrittenIsToldInTheOrigin()
    {
        using var folder = new ImageFolder();
        File.WriteAllText(folder["file"], "");
        using var context = new PrimaryContext();
        Assert.That(Origin(context, Here with { CacheFolder = Path.Combine(folder["file"], "cache") }),
            Does.Contain("3 compiled; the cache cannot be").And.Contain(folder["file"]));
    }

    [Test]
    public void AnyChangeOfSourceHeaderOrSettingIsAnotherEntry()
    {
        byte[] text = "__global__ x TILLER_KERNEL(a)"u8.ToArray(), header = "h"u8.ToArray();
        KernelSources sources = Of(("a.cu", text), ("b.cu", "b"u8.ToArray()), ("p.cuh", header));
        string key = sources.KeyOf("a.cu", ["sm_90a", "NVRTC 13.0"]);
        string[] others =
        [
            sources.KeyOf("a.cu", ["sm_90a", "NVRTC 13.1"]),
            sources.KeyOf("a.cu", ["sm_80", "NVRTC 13.0"]),
            sources.KeyOf("a.cu", ["sm_90aNVRTC 13.0"]),
            sources.KeyOf("a.cu", ["sm_90a", "NVRTC 13.0", "-G"]),
            sources.KeyOf("b.cu", ["sm_90a", "NVRTC 13.0"]),
            Of(("a.cu", [.. text, 1]), ("p.cuh", header)).KeyOf("a.cu", ["sm_90a", "NVRTC 13.0"]),
            Of(("a.cu", text), ("p.cuh", [.. header, 1])).KeyOf("a.cu", ["sm_90a", "NVRTC 13.0"]),
            Of(("a.cu", text), ("q.cuh", header)).KeyOf("a.cu", ["sm_90a", "NVRTC 13.0"]),
        ];
        Assert.That(others.Append(key), Is.Unique);
        Assert.That(Of(("a.cu", text), ("b.cu", "c"u8.ToArray()), ("p.cuh", header)).KeyOf("a.cu", ["sm_90a", "NVRTC 13.0"]), Is.EqualTo(key),
            "another file's text does not matter");
    }

    [Test]
    public void TwoKernelsOfOneNameAreRefused() =>
        Assert.That(() => Of(("a.cu", "TILLER_KERNEL(k)"u8.ToArray()), ("b.cu", "  TILLER_KERNEL(k)"u8.ToArray())),
            Throws.ArgumentException.With.Message.Contains("a.cu").And.Message.Contains("b.cu"));

    [Test]
    public void ManyLibrariesShareACacheAndThreadsALibrary()
    {
        using var folder = new ImageFolder();
        using var context = new PrimaryContext();
        KernelLibraryOptions options = Here with { CacheFolder = folder.Path };
        Parallel.For(0, 8, _ => Origin(context, options));
        Assert.That(Origin(context, options), Does.Contain("3 files from the cache").And.EndsWith("0 compiled"));
        Assert.That(folder.Entries, Has.Length.EqualTo(3));
        using var library = new KernelLibrary(context, options);
        long alive = HostCuda.LiveAllocations;
        Parallel.For(0, 60, i => library.Get(ImageFolder.TestSources.Kernels.Keys.ElementAt(i % ImageFolder.TestSources.Kernels.Count)));
        Assert.That(HostCuda.LiveAllocations, Is.EqualTo(alive + 3));
    }

    [Test]
    public void LoadingStopsWhenItIsCancelled()
    {
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, Here);
        Assert.That(() => library.LoadAll(new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(library.Origin, Does.EndWith("0 compiled"));
    }

    [TestCase("sm_90a.cubin", "image for sm_90a from")]
    [TestCase("sm_90a.ptx", "PTX for sm_90a from")]
    [TestCase("sm_80.ptx", "PTX for sm_80 from")]
    public void ImagesMadeAheadOfTimeAreLoadedWithoutNvrtc(string kind, string origin)
    {
        using ImageFolder images = new ImageFolder().With(ImageFolder.TestSources, [kind]);
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, Here with
        {
            ImageFolder = images.Path,
            Compiler = () => throw new InvalidOperationException("asked"),
        });
        library.LoadAll();
        Assert.That(library.Names.Select(name => library.Get(name).Name), Is.EquivalentTo(ImageFolder.TestSources.Kernels.Keys));
        Assert.That(library.Origin, Does.StartWith(origin));
    }

    [Test]
    public void AnImageThatTheDriverRefusesNamesTheGpuAndWhatWasTaken()
    {
        using ImageFolder images = new ImageFolder().With(ImageFolder.TestSources, ["sm_80.ptx"]);
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, Here with { BuiltIn = images.Open(), UseRuntimeCompiler = false });
        HostCuda.FailAt(2, 222); // the call after cuCtxSetCurrent
        Assert.That(() => library.Get("tillerTestTranspose"), Throws.TypeOf<CudaKernelImageException>().With.Property("Code").EqualTo(222)
            .And.Message.Contains("sm_90").And.Message.Contains("transpose.sm_80.ptx").And.Message.Contains("PTX for sm_80 built in"));
        Assert.That(library.Get("tillerTestTranspose").Name, Is.EqualTo("tillerTestTranspose"), "the next try may succeed");
    }

    [Test]
    public void ASourceThatNvrtcRefusesIsACompileError()
    {
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, Here with { Sources = Of(("nosuch.cu", "TILLER_KERNEL(k)"u8.ToArray())) });
        Assert.That(() => library.Get("k"), Throws.TypeOf<CudaCompilationException>());
        Assert.That(() => library.LoadAll(), Throws.TypeOf<CudaCompilationException>());
    }

    [TestCase(1)]
    [TestCase(2)]
    [TestCase(700)]
    public void EveryCallMayFail(int code)
    {
        Run();
        HostCuda.Reset();
        Run();
        long calls = HostCuda.Calls;
        for (long n = 1; n <= calls; n++)
        {
            HostCuda.Reset();
            HostCuda.FailAt(n, code);
            try
            {
                Run();
            }
            catch (CudaException e)
            {
                Assert.That(e.Message, Has.Length.GreaterThan(20));
            }

            Assert.That(HostCuda.LiveAllocations, Is.Zero, $"call {n} leaks");
        }

        HostCuda.Reset();
        Run();

        static void Run() => Origin(null, Here with { BuiltIn = null });
    }

    [Test]
    public void TheBuiltInPtxHasEveryKernelForBothArchitectures()
    {
        if (KernelSources.BuiltIn.Files.Count == 0 || !File.Exists(Repository.Path("build", "kernels", KernelImages.Manifest)))
        {
            Assert.Ignore("This build embeds no PTX: run cmake -B build && cmake --build build, which needs clang 16 or later (tools/setup.sh).");
        }

        KernelImages builtIn = KernelImages.BuiltIn!;
        Assert.That(builtIn, Is.Not.Null, "build/kernels was not embedded: build again");
        if (builtIn.SourcesHash != KernelSources.BuiltIn.Hash)
        {
            Assert.Ignore("The PTX in build/kernels is of other sources: run cmake --build build, and build again.");
        }

        foreach (KernelImage image in builtIn.Images)
        {
            string ptx = Encoding.UTF8.GetString(builtIn.Read(image));
            Assert.That(ptx, Does.Contain($".target {image.Architecture}"), image.File);
            Assert.That(Entry().Matches(ptx).Select(m => m.Groups["name"].Value),
                Is.EquivalentTo(KernelSources.BuiltIn.Kernels.Where(k => k.Value == image.Source).Select(k => k.Key)), image.File);
        }

        Assert.That(builtIn.Images.Select(i => i.File), Is.EquivalentTo(KernelSources.BuiltIn.Files
            .SelectMany(file => (string[])[$"{file[..^3]}.sm_80.ptx", $"{file[..^3]}.sm_90a.ptx"])));
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context, new KernelLibraryOptions { UseRuntimeCompiler = false });
        library.LoadAll();
        Assert.That(library.Origin, Does.StartWith("PTX for sm_90a built in"));
    }

    private static string Origin(PrimaryContext? context, KernelLibraryOptions options)
    {
        PrimaryContext device = context ?? new PrimaryContext();
        try
        {
            using var library = new KernelLibrary(device, options);
            library.LoadAll();
            return library.Origin;
        }
        finally
        {
            if (context is null)
            {
                device.Dispose();
            }
        }
    }

    private static KernelSources Of(params (string Name, byte[] Content)[] files) => new(files.Select(f => KeyValuePair.Create(f.Name, f.Content)));

    [GeneratedRegex(@"\.entry\s+(?<name>\w+)", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Entry();
}
