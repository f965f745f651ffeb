namespace Tiller.Tests;

public class RepositoryTests
{
    [Test]
    public void Every_golden_folder_has_a_checkpoint() =>
        Assert.That(Repository.Goldens, Has.All.Matches<string>(d => File.Exists(System.IO.Path.Combine(d!, "checkpoint", "tokenizer.json"))));
}
