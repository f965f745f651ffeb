using System.Text.Json;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Tests.Interop;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller kernels</c>, with the host CUDA's NVRTC.</summary>
public class KernelsTests : HostCudaTest
{
    private Scratch _scratch = null!;

    [SetUp]
    public void NameACache()
    {
        _scratch = new Scratch();
        Environment.SetEnvironmentVariable(KernelCache.FolderVariable, _scratch["cache"]);
    }

    [TearDown]
    public void ForgetIt()
    {
        Environment.SetEnvironmentVariable(KernelCache.FolderVariable, "off");
        _scratch.Dispose();
    }

    // The host CUDA is of compute capability 9.0, whose kernels are compiled for sm_90a, by either name.
    [TestCase("sm_90")]
    [TestCase("sm_90a")]
    public async Task A_library_on_that_gpu_finds_every_entry(string gpu)
    {
        var run = await ToolRun.Of("kernels", "--compile", gpu, "--json");
        Assert.That(run.Code, Is.Zero, run.Error);
        var files = run.Json.EnumerateArray().ToList();
        Assert.That(files.Select(f => f.GetProperty("source").GetString()), Is.EqualTo(KernelSources.BuiltIn.Files));
        Assert.That(files, Has.All.Matches<JsonElement>(f => f.GetProperty("compiled").GetBoolean()
            && f.GetProperty("architecture").GetString() == "sm_90a"));
        using var context = new PrimaryContext();
        using var library = new KernelLibrary(context);
        library.LoadAll();
        Assert.That(library.Origin, Does.Contain($"{KernelInventory.SourceCount} files from the cache {_scratch["cache"]}, 0 compiled"));
        Assert.That(Directory.GetFiles(_scratch["cache"]), Is.EquivalentTo(files.Select(f => f.GetProperty("file").GetString())));
    }

    [Test]
    public async Task What_is_there_is_left_and_what_is_damaged_is_compiled_again()
    {
        string[] command = ["kernels", "--compile", "sm_80", "--compile", "sm_90a", "--compile", "sm_90"];
        int sources = KernelInventory.SourceCount;
        var first = await ToolRun.Of(command);
        string entry = Directory.GetFiles(_scratch["cache"], "norm.sm_80.*").Single();
        await File.AppendAllTextAsync(entry, "x");
        var second = await ToolRun.Of(command);
        Assert.That(first.Output, Does.Contain($"\n{2 * sources} compiled, 0 were there, "));
        Assert.That(second.Output,
            Does.Contain($"\n1 compiled, {2 * sources - 1} were there, ").And.Contain("sm_80   norm.cu                     compiled"));
        Assert.That((await ToolRun.Of(command)).Output, Does.Contain($"\n0 compiled, {2 * sources} were there, "));
    }

    [TestCase("sm_75", "the kernels need sm_80 or later", ExitCode.Usage)]
    [TestCase("sm_80a", "Tiller compiles kernels for sm_80.", ExitCode.Usage)]
    [TestCase("sm_120", "NVRTC 13.99 does not know sm_120", ExitCode.Usage)]
    [TestCase("H200", "expected the architecture of a GPU", ExitCode.Usage)]
    [TestCase("sm_+9", "expected the architecture of a GPU", ExitCode.Usage)]
    public async Task An_architecture_that_is_none_is_told(string architecture, string told, int code)
    {
        var run = await ToolRun.Of("kernels", "--compile", "sm_80", "--compile", architecture, "--json");
        Assert.That((run.Code, run.Json.GetProperty("error").GetProperty("type").GetString()), Is.EqualTo((code, "KernelArchitecture")));
        Assert.That(run.Error, Does.Contain(told).And.Contain(architecture));
    }

    [Test]
    public async Task A_cache_that_cannot_be_filled_is_an_error()
    {
        Environment.SetEnvironmentVariable(KernelCache.FolderVariable, "off");
        var off = await ToolRun.Of("kernels", "--compile", "sm_80");
        await File.WriteAllTextAsync(_scratch["file"], "");
        Environment.SetEnvironmentVariable(KernelCache.FolderVariable, Path.Combine(_scratch["file"], "below"));
        var below = await ToolRun.Of("kernels", "--compile", "sm_80");
        Assert.That((off.Code, below.Code), Is.EqualTo((ExitCode.BadInput, ExitCode.BadInput)));
        Assert.That(off.Error, Does.Contain("it is off").And.Contain(KernelCache.FolderVariable));
        Assert.That(below.Error, Does.Contain("cannot be written").And.Contain(_scratch["file"]));
    }

    [Test]
    public void A_source_that_nvrtc_refuses_is_an_error_and_what_was_compiled_stays()
    {
        var options = new KernelLibraryOptions { Sources = new KernelSources([KeyValuePair.Create("nosuch.cu", "TILLER_KERNEL(k)"u8.ToArray())]) };
        Assert.That(() => KernelBuild.Compile("sm_80", options), Throws.TypeOf<CudaCompilationException>().With.Property("Log")
            .Contains("nosuch.cu"));
        Assert.That(ExitCode.Of(Assert.Catch<CudaException>(() => KernelBuild.Compile("sm_80", options))), Is.EqualTo(ExitCode.Numerical));
        Assert.That(Directory.Exists(_scratch["cache"]), Is.False);
    }

    [Test]
    public async Task Cancelled_is_cancelled()
    {
        var run = await ToolRun.Of(["kernels", "--compile", "sm_80"], [], new CancellationToken(canceled: true));
        Assert.That(run.Code, Is.EqualTo(ExitCode.Cancelled));
    }

    [Test]
    public async Task The_list_tells_sources_compiler_and_cache()
    {
        var empty = await ToolRun.Of("kernels");
        Assert.That(empty.Code, Is.Zero);
        Assert.That(empty.Output,
            Does.Contain($"{KernelInventory.SourceCount} files, {KernelSources.BuiltIn.Kernels.Count} kernels").And.Contain(
                "NVRTC 13.99 for sm_80, sm_90a").And.Contain($"{_scratch["cache"]}: empty"));
        await ToolRun.Of("kernels", "--compile", "sm_90");
        await File.WriteAllTextAsync(Path.Combine(_scratch["cache"], "norm.sm_90a.old"), "old");
        Assert.That((await ToolRun.Of("kernels")).Output,
            Does.Contain($"{KernelInventory.SourceCount} of {KernelInventory.SourceCount} files for sm_90a; 1 of other sources or another compiler"));
        var json = (await ToolRun.Of("kernels", "--json")).Json;
        var cache = json.GetProperty("cache");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(json.GetProperty("sources").GetInt32(), Is.EqualTo(KernelInventory.SourceCount));
            Assert.That(json.GetProperty("compiler").GetProperty("name").GetString(), Is.EqualTo("NVRTC 13.99"));
            Assert.That(json.GetProperty("compiler").GetProperty("architectures").EnumerateArray().Select(a => a.GetString()),
                Is.EqualTo(["sm_80", "sm_90a"]));
            Assert.That(cache.GetProperty("folder").GetString(), Is.EqualTo(_scratch["cache"]));
            Assert.That(cache.GetProperty("others").GetInt32(), Is.EqualTo(1));
            Assert.That(cache.GetProperty("ready").EnumerateArray().Single().GetProperty("files").GetInt32(),
                Is.EqualTo(KernelInventory.SourceCount));
        }
    }

    [Test]
    public void The_list_tells_every_folder_of_images_and_what_is_wrong_with_it()
    {
        using var images = new Kernels.ImageFolder().With(Kernels.ImageFolder.TestSources, ["sm_80.ptx", "sm_90a.cubin"]);
        var options = new KernelLibraryOptions { Sources = Kernels.ImageFolder.TestSources, BuiltIn = images.Open(), ImageFolder = images.Path };
        var sets = KernelInventory.Take(options).Images;
        Assert.That(sets, Has.Count.EqualTo(2).And.All.Property("Problem").Null);
        Assert.That(sets[1].Images.Select(i => (i.Architecture, i.IsPtx, i.Compiler)).Distinct(),
            Is.EqualTo([("sm_80", true, "clang-19"), ("sm_90a", false, "nvcc-13.0")]));
        File.WriteAllText(images[KernelImages.Manifest], "tiller kernels 1\n");
        Assert.That(KernelInventory.Take(options).Images[1].Problem, Does.Contain(KernelImages.Manifest));
        Assert.That(KernelInventory.Take(options with { ImageFolder = _scratch["nowhere"] }).Images[1].Problem, Does.Contain("asked for by name"));
        Assert.That(KernelInventory.Take(options with { ImageFolder = "off", Sources = KernelSources.BuiltIn }).Images.Single().Problem,
            Does.Contain("other sources"));
    }
}
