namespace Tiller.Tests;

/// <summary>Material that is not part of the sources, in the folder that TILLER_SHARED names.</summary>
internal static class SharedFolder
{
    private const string Variable = "TILLER_SHARED";

    /// <summary>A folder of it; the test is ignored, and says so, where it is not there.</summary>
    public static string Require(string name)
    {
        string? root = Environment.GetEnvironmentVariable(Variable);
        string path = Path.Combine(root ?? "", name);
        if (string.IsNullOrEmpty(root) || !Directory.Exists(path))
        {
            string message = $"NOT TESTED: {Variable} {(string.IsNullOrEmpty(root) ? "is not set" : $"names {root}, which has no {name}")}.";
            TestContext.Error.WriteLine(message);
            Assert.Ignore(message);
        }

        return path;
    }
}
