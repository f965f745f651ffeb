namespace Tiller.Tests;

/// <summary>Finds files that are not part of the repository, in the folder that TILLER_SHARED names.</summary>
internal static class SharedFolder
{
    private const string Variable = "TILLER_SHARED";

    /// <summary>Returns the path of one of its folders; if that is missing, the test is ignored with a message.</summary>
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
