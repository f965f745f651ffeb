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
            var e = CudaLibraryResolver.Find("libnosuch", empty, out nint handle)!;
            Assert.That(handle == 0, Is.True);
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

            // On a machine with cuSOLVER the search ends there.
            var e = CudaLibraryResolver.Find(CudaLibraryResolver.Cusolver, folder, out nint handle);
            Assert.That(handle == 0, Is.EqualTo(e is not null));
            if (e is not null)
            {
                string file = Path.Combine(folder, "libcusolver.so.12");
                Assert.That(e.LookedIn[0], Does.StartWith(file + ": ").And.Length.GreaterThan(file.Length + 10), "with the loader's message");
                Assert.That(e.LookedIn, Has.Count.GreaterThan(1));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
