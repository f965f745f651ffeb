namespace Tiller.Tool;

/// <summary>Tasks of the demo. Each has contrast sets and prompts in models/demo/contrast.</summary>
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
