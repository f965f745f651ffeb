using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tests.Serving;

/// <summary>A small checkpoint with a chat template, and a controller that was fitted to it.</summary>
internal static class ChatModel
{
    private static readonly Lazy<Controller> s_controller = new(Fit);

    /// <summary>The model, which all tests can share because it is immutable.</summary>
    public static LanguageModel Instance { get; } = LanguageModel.Load(Folder, new LoadOptions { Device = Device.Cpu, Threads = 1 });

    public static string Folder => Repository.Path("tests", "goldens", "qwen2-bf16", "checkpoint");

    public static Controller Controller => s_controller.Value;

    private static Controller Fit() => ControllerFit.Run(
        Instance, new ContrastSet(["The sea is wide.", "A gull cried."], ["The dog slept.", "A cat ran."]),
        new FitOptions { Cost = FitCost.Feature }).Controller;
}
