using System.Text.RegularExpressions;
using Deque.AxeCore.Playwright;
using Microsoft.Playwright;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Serving;
using Tiller.Tests.Serving;
using static Microsoft.Playwright.Assertions;

namespace Tiller.Tests.Browser;

/// <summary>
/// The page as its users have it: typed into, streaming, steered while it streams, fitted, reloaded from a link, by keyboard alone, light and dark;
/// and axe finds nothing in any of these states. A server that is held up after its steps makes what the page shows a matter of counts.
/// </summary>
public sealed partial class PlaygroundTests
{
    private const string Prompt = "Late at night Karin went to the";

    private string _folder = null!;
    private RunningServer _server = null!;
    private Hold _hold = null!;
    private IPage _page = null!;
    private List<string> _errors = null!;

    [OneTimeSetUp]
    public void Fit()
    {
        _folder = Directory.CreateTempSubdirectory("tiller-").FullName;
        var all = ContrastSet.Read(
            Repository.Path("models", "demo", "contrast", "topic.positive.txt"), Repository.Path("models", "demo", "contrast", "topic.negative.txt"));
        var contrast = new ContrastSet([.. all.Positive.Take(12)], [.. all.Negative.Take(12)]);
        ControllerFit.Run(RunningServer.Model, contrast, new FitOptions { Cost = FitCost.Feature, HeldOut = [.. all.Positive.Skip(12).Take(3)] })
            .Controller.Save(Path.Combine(_folder, "sea.tiller"));
    }

    [OneTimeTearDown]
    public void Remove() => Directory.Delete(_folder, recursive: true);

    [SetUp]
    public async Task Open()
    {
        _server = await RunningServer.Start(new ServiceOptions
        {
            ControllersDirectory = _folder,
            ChatTemplate = Tiller.Chat.ChatFormat.ChatMl,
        });
        _hold = new Hold(_server);
        _errors = [];
        _page = await Load();
    }

    [TearDown]
    public async Task Shut()
    {
        _hold.Dispose();
        await _page.Context.CloseAsync().InTime();
        await _server.DisposeAsync();
        Assert.That(_errors, Is.Empty, "the page's script failed, or its policy forbade something");
    }

    [Test]
    public async Task What_is_typed_is_continued_plain_and_steered_side_by_side()
    {
        await Check();
        await _page.Locator("#prompt").FillAsync(Prompt);
        await Switch("sea").CheckAsync();
        await Limit(12);
        await _page.Locator("input[type=range]").PressAsync("End");
        await _page.Locator("#run").ClickAsync();
        await Expect(Status).ToHaveTextAsync(Done(24));
        string plain = await Text("plain"), steered = await Text("steered");
        Assert.That((plain, steered), Is.EqualTo((await Alone(null), await Alone(4))));
        Assert.That(plain, Is.Not.EqualTo(steered));
        await Expect(_page.Locator("#errors-told")).ToContainTextAsync("12 tokens by 10 layers");
        await Expect(_page.Locator("#figures tbody tr")).ToHaveCountAsync(12);
        Assert.That(await IsDrawn("#errors") && await IsDrawn("#efforts"), Is.True);
        await Check();
    }

    [Test]
    public async Task Lambda_that_is_moved_while_text_streams_changes_the_text_and_the_plots()
    {
        await Ask(tokens: 16);
        await _page.Locator("#run").ClickAsync();
        await Expect(Status).ToHaveTextAsync(Done(32));
        string still = await Text("steered"), drawnStill = await Drawn("efforts");

        _hold.Begin();
        await _page.Locator("#run").ClickAsync();
        _hold.Release(4);
        await Expect(_page.Locator("#errors-told")).ToContainTextAsync("5 tokens by");
        string begun = await Text("steered"), before = await Drawn("efforts");
        Assert.That(still, Does.StartWith(begun));
        await Check();
        var slider = _page.Locator("input[type=range]");
        var moved = await _page.RunAndWaitForResponseAsync(() => slider.PressAsync("End"), response => response.Request.Method == "PATCH").InTime();
        Assert.That((moved.Status, moved.Request.PostData), Is.EqualTo((200, """{"controllers":{"sea":4}}""")));
        await _page.WaitForFunctionAsync("before => document.getElementById('efforts').toDataURL() !== before", before);
        _hold.End();
        await Expect(Status).ToHaveTextAsync(Ended);
        string steered = await Text("steered");
        Assert.That(steered, Does.StartWith(begun).And.Not.EqualTo(still));
        Assert.That(await Drawn("efforts"), Is.Not.EqualTo(drawnStill));
        Assert.That(await Text("plain"), Is.EqualTo(await Alone(null, 16)), "what is not steered goes on as it was");
    }

    [Test]
    public async Task A_controller_is_fitted_with_progress_and_used_at_once()
    {
        await _page.Locator("#prompt").FillAsync(Prompt);
        await Limit(12);
        await _page.Locator("#fit-name").FillAsync("gulls");
        await _page.Locator("#positive").FillAsync("The sea has gulls.\nA boat is on the sea.\nThe captain swam.");
        await _page.Locator("#negative").FillAsync("The dog has bones.\nA kennel is in the yard.\nThe dog barked.");

        // A text elsewhere whose step does not end holds the fit where it lets one go first.
        _hold.Begin();
        using var other = _server.Service.Scheduler.Submit([3], new() { MaxNewTokens = 200, StopIds = [] });
        await _page.Locator("#fit-run").ClickAsync();
        Patience.Until(() => _server.Service.Scheduler.IsAwaited, "the fit waits");
        await Expect(_page.Locator("#fit-progress")).ToBeVisibleAsync();
        await Expect(_page.Locator("#fit-status")).ToContainTextAsync("of");
        await Expect(_page.Locator("#fit-run")).ToBeDisabledAsync();
        await Check();
        other.Cancel();
        _hold.End();
        await Expect(_page.Locator("#fit-status")).ToHaveTextAsync("gulls is made, and switched on at λ 1.");
        await Expect(Switch("gulls")).ToBeCheckedAsync();
        await _page.Locator("#run").ClickAsync();
        await Expect(Status).ToHaveTextAsync(Done(24));
        Assert.That(await Text("steered"), Is.EqualTo(await Alone(1, 12, "gulls")));
        await _server.Send(HttpMethod.Delete, "/v1/controllers/gulls", null);
    }

    [Test]
    public async Task Held_out_prompts_certify_what_is_fitted_and_the_certificate_is_shown_and_plotted()
    {
        await _page.Locator("#fit-name").FillAsync("gulls");
        await _page.Locator("#positive").FillAsync("The sea has gulls.\nA boat is on the sea.\nThe captain swam.");
        await _page.Locator("#negative").FillAsync("The dog has bones.\nA kennel is in the yard.\nThe dog barked.");
        await _page.Locator("#certify").FillAsync("The gull flew over the sea.\n\nThe boat left the harbor.\n");
        var asked = await _page.RunAndWaitForRequestAsync(() => _page.Locator("#fit-run").ClickAsync(), request => request.Method == "POST").InTime();
        Assert.That(asked.PostData, Does.Contain("""certify":["The gull flew over the sea.","The boat left the harbor."]"""));
        await Expect(_page.Locator("#fit-status")).ToHaveTextAsync(Certified());
        var certificate = (await _server.Send(HttpMethod.Get, "/v1/controllers/gulls", null)).Json.GetProperty("inspect").GetProperty("certificate");
        int inside = certificate.GetProperty("inside").GetInt32();
        await Expect(_page.Locator("#fit-status")).ToContainTextAsync($" {inside} of 2 held-out prompts are inside the bound.");
        await Expect(_page.Locator("#fit-certificate-title")).ToHaveTextAsync("Certificate of gulls");
        var told = _page.Locator("#fit-certificate-body > *");
        await Expect(told.First).ToContainTextAsync($"{inside} of 2 held-out prompts are inside the bound, which is ");
        await Expect(told.Nth(1)).ToHaveAttributeAsync("role", "img");
        await Expect(told.Nth(2)).ToContainTextAsync($"before layers 0 to {RunningServer.Model.Config.L}; dashed line: the mean bound.");
        await Expect(_page.Locator("#fit-certificate table tr")).ToHaveCountAsync(RunningServer.Model.Config.L + 2);
        Assert.That(await IsDrawn("#fit-certificate canvas"), Is.True);
        await Check();

        // The next fit has no such prompts, and its certificate is not the last one's.
        await _page.Locator("#certify").FillAsync("");
        await _page.Locator("#replace").CheckAsync();
        await _page.Locator("#fit-run").ClickAsync();
        await Expect(_page.Locator("#fit-status")).ToHaveTextAsync("gulls is made, and switched on at λ 1.");
        await Expect(_page.Locator("#fit-certificate")).ToBeHiddenAsync();
        await _server.Send(HttpMethod.Delete, "/v1/controllers/gulls", null);
    }

    [Test]
    public async Task A_preset_sets_lambda_and_the_bound()
    {
        await Switch("sea").CheckAsync();
        await _page.Locator("#preset").SelectOptionAsync(new SelectOptionValue { Label = "strong, but bounded: λ 2, |u| ≤ 2" });
        await Expect(_page.Locator("input[type=range]")).ToHaveValueAsync("2");
        await Expect(_page.Locator("#max-effort")).ToHaveValueAsync("2");
        await _page.Locator("#preset").SelectOptionAsync(new SelectOptionValue { Label = "opposite direction: λ −1" });
        await Expect(_page.Locator("input[type=range]")).ToHaveValueAsync("-1");
        await Expect(_page.Locator("#max-effort")).ToHaveValueAsync("");
    }

    [Test]
    public async Task A_link_brings_the_whole_setting_back()
    {
        await Ask(tokens: 10);
        await _page.Locator("summary").First.ClickAsync();
        await _page.Locator("input[type=range]").PressAsync("End");
        await _page.Locator("#layers").FillAsync("2-7");
        await _page.Locator("#max-effort").FillAsync("3");
        await _page.Locator("#tokens").SelectOptionAsync("generated");
        await _page.Locator("#run").ClickAsync();
        await Expect(Status).ToHaveTextAsync(Ended);
        string text = await Text("steered");
        await _page.Locator("#link").ClickAsync();
        await Expect(Status).ToHaveTextAsync(new Regex("^The link (?:has been copied to|is in) the ", RegexOptions.None, TimeSpan.FromSeconds(60)));
        string link = _page.Url;
        Assert.That(link, Does.Contain("#"));
        await _page.Context.CloseAsync().InTime();

        _page = await Load(link);
        await Expect(Switch("sea")).ToBeCheckedAsync();
        await Expect(_page.Locator("input[type=range]")).ToHaveValueAsync("4");
        await Expect(_page.Locator("#layers")).ToHaveValueAsync("2-7");
        await Expect(_page.Locator("#tokens")).ToHaveValueAsync("generated");
        await _page.Locator("#run").ClickAsync();
        await Expect(Status).ToHaveTextAsync(Ended);
        Assert.That(await Text("steered"), Is.EqualTo(text));
    }

    [Test]
    public async Task A_link_that_is_none_is_told_and_harms_nothing()
    {
        foreach (string hash in new[] { "#!!", "#bm90IGpzb24", "#eyJwcm9tcHQiOjF9" })
        {
            var page = await Load(new Uri(_server.Address, "/" + hash).ToString());
            await Expect(page.Locator("#prompt")).ToHaveValueAsync("Once upon a time");
            await Expect(page.Locator("#alert")).ToHaveTextAsync(hash.Length > 14 ? "" : "The link holds no setting that can be read.");
            await page.Context.CloseAsync().InTime();
        }
    }

    [Test]
    public async Task The_keyboard_alone_is_enough()
    {
        var focused = _page.Locator(":focus");
        await _page.Keyboard.PressAsync("Tab");
        await Expect(focused).ToHaveTextAsync("Skip to the answer");
        await Reach("#prompt");
        await _page.Keyboard.PressAsync("Control+A");
        await _page.Keyboard.TypeAsync(Prompt);
        await Reach("#controllers input[type=checkbox]");
        await _page.Keyboard.PressAsync("Space");
        await Reach("input[type=range]");
        await _page.Keyboard.PressAsync("ArrowRight");
        await Expect(_page.Locator("input[type=number][aria-label='λ of sea']")).ToHaveValueAsync("1.05");

        // Esc stops what streams.
        _hold.Begin();
        await _page.Keyboard.PressAsync("Control+Enter");
        _hold.Release(2);
        await Expect(_page.Locator("#errors-told")).ToContainTextAsync("3 tokens by");
        await Expect(_page.Locator("#stop")).ToBeEnabledAsync();
        await _page.Keyboard.PressAsync("Escape");
        await Expect(Status).ToHaveTextAsync("stopped");
        _hold.End();
        Patience.Until(() => _server.Service.Scheduler.Status.Running == 0, "both texts are cancelled");

        // Arrow keys go through the cells, and each is told.
        await Reach("#errors");
        await _page.Keyboard.PressAsync("ArrowRight");
        await Expect(_page.Locator("#errors-told")).ToContainTextAsync("Token 1 “");
        await _page.Keyboard.PressAsync("ArrowRight");
        await _page.Keyboard.PressAsync("ArrowUp");
        await Expect(_page.Locator("#errors-told")).ToHaveTextAsync(Cell());
        await Check();
    }

    [Test]
    public async Task Chats_are_answered_and_kept()
    {
        await _page.Locator("input[name=mode][value=chat]").CheckAsync();
        await _page.Locator("#prompt").FillAsync("Tell me a story.");
        await Switch("sea").CheckAsync();
        await Limit(6);
        await Check();
        await _page.Locator("#prompt").PressAsync("Control+Enter");
        await Expect(_page.Locator("#conversation p")).ToHaveCountAsync(2);
        await Expect(_page.Locator("#conversation")).ToContainTextAsync("user: Tell me a story.");
        await Expect(_page.Locator("#prompt")).ToHaveValueAsync("");
        await Check();
        await _page.Locator("#clear").ClickAsync();
        await Expect(_page.Locator("#conversation p")).ToHaveCountAsync(0);
    }

    [Test]
    public async Task A_certificate_is_shown()
    {
        await _page.GetByRole(AriaRole.Button, new() { Name = "Certificate of sea" }).ClickAsync();
        await Expect(_page.Locator("#details-title")).ToHaveTextAsync("sea, with its certificate");
        await Expect(_page.Locator("#details-body")).ToContainTextAsync("of 3 held-out prompts are inside the bound");
        await Expect(_page.Locator("#details-body table").First.Locator("tr")).ToHaveCountAsync(RunningServer.Model.Config.L + 2);
        Assert.That(await IsDrawn("#details-body canvas"), Is.True);
        await Check();
        await _page.Keyboard.PressAsync("Escape");
        await Expect(_page.Locator("#details")).ToBeHiddenAsync();
    }

    [Test]
    public async Task A_key_is_asked_for_and_kept_for_the_tab_alone()
    {
        await using var server = await RunningServer.Start(new ServiceOptions { ApiKeys = ["secret"] });
        var page = await Chromium.NewPage(server.Address);
        await page.GotoAsync("/");
        await Expect(page.Locator("#key-dialog")).ToBeVisibleAsync();
        await Check(page);
        await page.Locator("#key").FillAsync("wrong");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#key")).ToHaveValueAsync("");
        await Expect(page.Locator("#key-dialog")).ToBeVisibleAsync();
        await page.Locator("#key").FillAsync("secret");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#model")).ToContainTextAsync("demo");
        Assert.That(await page.EvaluateAsync<int>("localStorage.length"), Is.Zero);

        // This server has no chat format, so the page offers texts alone.
        await Expect(page.Locator("#no-chat")).ToBeVisibleAsync();
        await Expect(page.Locator("input[name=mode][value=chat]")).ToBeDisabledAsync();
        await Expect(page.Locator("input[name=mode][value=completion]")).ToBeCheckedAsync();
        await page.Context.CloseAsync().InTime();
    }

    [TestCase(ColorScheme.Light, 1280)]
    [TestCase(ColorScheme.Dark, 1280)]
    [TestCase(ColorScheme.Dark, 400)]
    public async Task It_is_readable_in_light_and_dark_wide_and_narrow(ColorScheme scheme, int width)
    {
        await _page.Context.CloseAsync().InTime();
        _page = await Load(scheme: scheme, width: width);
        await Ask(tokens: 40);
        await _page.Locator("input[type=range]").FillAsync("2");
        await _page.Locator("#max-effort").EvaluateAsync("field => field.value = 6");
        await _page.Locator("#run").ClickAsync();
        await Expect(Status).ToHaveTextAsync(Ended);
        await Check();
        string ground = await _page.EvaluateAsync<string>("getComputedStyle(document.body).backgroundColor");
        Assert.That(int.Parse(Number().Match(ground).Value) > 128, Is.EqualTo(scheme == ColorScheme.Light), ground);
        Assert.That(await _page.EvaluateAsync<int>("document.documentElement.scrollWidth"), Is.LessThanOrEqualTo(width),
            "nothing to scroll sideways");
        if (scheme == ColorScheme.Light && Environment.GetEnvironmentVariable("TILLER_REWRITE_DOCS") == "1")
        {
            await _page.ScreenshotAsync(new() { Path = Repository.Path("docs", "playground.png") }).InTime();
        }
    }

    private ILocator Status => _page.Locator("#status");

    private ILocator Switch(string name) => _page.GetByRole(AriaRole.Checkbox, new() { Name = name, Exact = true });

    private async Task<IPage> Load(string? address = null, ColorScheme scheme = ColorScheme.Light, int width = 1280)
    {
        var page = await Chromium.NewPage(_server.Address, scheme, width);
        page.PageError += (_, error) => _errors.Add(error);
        page.Console += (_, message) =>
        {
            if (message.Type == "error")
            {
                _errors.Add(message.Text);
            }
        };
        await page.GotoAsync(address ?? "/");
        await Expect(page.Locator("#model")).ToContainTextAsync("demo");
        await Expect(page.Locator("#controllers input[type=checkbox]").First).ToBeVisibleAsync();
        return page;
    }

    private async Task Ask(int tokens)
    {
        await _page.Locator("#prompt").FillAsync(Prompt);
        await Switch("sea").CheckAsync();
        await Limit(tokens);
    }

    // The demo's texts end at a sentence or two: what is counted here is shorter.
    private Task Limit(int tokens) => _page.Locator("#max-tokens").EvaluateAsync("(field, most) => field.value = most", tokens);

    private async Task Reach(string selector)
    {
        for (int i = 0; i < 60; i++)
        {
            if (await _page.EvaluateAsync<bool>("selector => document.activeElement.matches(selector)", selector))
            {
                return;
            }

            await _page.Keyboard.PressAsync("Tab");
        }

        Assert.Fail($"{selector} is not reached by the Tab key.");
    }

    private async Task<string> Text(string pane) => (await _page.Locator("#" + pane).TextContentAsync())![Prompt.Length..];

    private Task<string> Drawn(string canvas) => _page.Locator("#" + canvas).EvaluateAsync<string>("canvas => canvas.toDataURL()");

    private Task<bool> IsDrawn(string canvas) => _page.Locator(canvas).EvaluateAsync<bool>(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value !== 0)");

    // What the server answers to the same request without a page.
    private async Task<string> Alone(double? lambda, int tokens = 12, string name = "sea")
    {
        string steering = lambda is null ? "" : $$""","steering":{"controllers":[{"name":"{{name}}","lambda":{{lambda}} }]}""";
        var answer = await _server.Post("/v1/completions",
            $$"""{"model":"demo","prompt":"{{Prompt}}","max_tokens":{{tokens}},"temperature":0.7,"seed":3{{steering}} }""");
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        return answer.Json.GetProperty("choices")[0].GetProperty("text").GetString()!;
    }

    private async Task Check(IPage? page = null)
    {
        var result = await (page ?? _page).RunAxe().InTime();
        Assert.That(result.Violations.SelectMany(violation => violation.Nodes.Select(node => $"{violation.Id}: {violation.Help}: {node.Html}")),
            Is.Empty);
        Assert.That(result.Passes, Has.Length.GreaterThan(10), "axe has looked at something");
    }

    private static Regex Ended { get; } = new("^[0-9]+ tokens", RegexOptions.None, TimeSpan.FromSeconds(60));

    private static Regex Done(int tokens) => new($"^{tokens} tokens", RegexOptions.None, TimeSpan.FromSeconds(60));

    [GeneratedRegex("^Token 2 “.*”, layer 1: β − v·x ", RegexOptions.None, 60000)]
    private static partial Regex Cell();

    [GeneratedRegex("^gulls is made, and switched on at λ 1[.] [0-2] of 2 held-out prompts are inside the bound[.]$", RegexOptions.None, 60000)]
    private static partial Regex Certified();

    [GeneratedRegex("[0-9]+", RegexOptions.None, 60000)]
    private static partial Regex Number();

    /// <summary>Holds the scheduler up after its steps, as many as a test says.</summary>
    private sealed class Hold : IDisposable
    {
        private readonly SemaphoreSlim _goes = new(0);
        private volatile bool _holds;

        public Hold(RunningServer server) => server.Service.Scheduler.AfterTurn = _ =>
        {
            if (_holds)
            {
                _goes.Wait(Patience.Limit);
            }
        };

        public void Begin() => _holds = true;

        public void Release(int turns) => _goes.Release(turns);

        public void End()
        {
            _holds = false;
            _goes.Release(1000);
        }

        public void Dispose() => End();
    }
}
