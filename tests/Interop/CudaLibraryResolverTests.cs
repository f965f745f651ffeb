using Tiller.Interop;

namespace Tiller.Tests.Interop;

public class CudaLibraryResolverTests
{
    [Test]
    public void AMissingLibrarySaysWhereItWasLookedFor()
    {
        string empty = Directory.CreateTempSubdirectory("tiller").FullName;
        try
        {
            var e = Assert.Throws<CudaLibraryMissingException>(() => CudaLibraryResolver.Find("libnosuch", empty))!;
            Assert.That(e.Library, Is.EqualTo("libnosuch"));
            Assert.That(e.LookedIn, Has.Some.Contains(empty));
            Assert.That(e.LookedIn, Has.Some.Contains("/usr/local/cuda"));
            Assert.That(e.Message, Does.Contain(CudaLibraryResolver.FolderVariable));
        }
        finally
        {
            Directory.Delete(empty);
        }
    }

    [Test]
    public void AFileThatIsNoLibraryIsNamedAndTheSearchGoesOn()
    {
        string folder = Directory.CreateTempSubdirectory("tiller").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "libcusolver.so.12"), "not a library");
            try
            {
                // On a machine with cuSOLVER the search ends there.
                Assert.That(CudaLibraryResolver.Find(CudaLibraryResolver.Cusolver, folder), Is.Not.Zero);
            }
            catch (CudaLibraryMissingException e)
            {
                Assert.That(e.LookedIn[0], Does.StartWith(Path.Combine(folder, "libcusolver.so.12") + ":"));
                Assert.That(e.LookedIn, Has.Count.GreaterThan(1));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
