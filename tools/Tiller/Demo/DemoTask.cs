namespace Tiller.Tool;

/// <summary>What the demo steers: each task has contrast sets and prompts under models/demo/contrast.</summary>
internal enum DemoTask
{
    /// <summary>Stories towards the sea.</summary>
    Topic,

    /// <summary>Reviews from rude to kind.</summary>
    Tone,

    /// <summary>Quiz answers from false to true.</summary>
    Honesty,

    /// <summary>Replies to restricted requests from compliance to refusal.</summary>
    Refusal,
}
