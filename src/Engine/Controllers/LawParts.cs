using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>What a method compiles to before it is one law: <see cref="FeedbackLaw"/> in the making.</summary>
internal sealed class LawParts
{
    /// <summary>Sensors so far.</summary>
    public List<Sensor> Sensors { get; } = [];

    /// <summary>Terms so far.</summary>
    public List<Term> Terms { get; } = [];

    /// <summary>Planes so far.</summary>
    public List<Plane> Planes { get; } = [];

    /// <summary>Edits so far.</summary>
    public List<ActivationEdit> Edits { get; } = [];

    /// <summary>Conditions on the prompt so far.</summary>
    public List<PromptCondition> Conditions { get; } = [];

    /// <summary>Adds a sensor.</summary>
    /// <returns>Its index.</returns>
    public int Add(Sensor sensor)
    {
        Sensors.Add(sensor);
        return Sensors.Count - 1;
    }
}
