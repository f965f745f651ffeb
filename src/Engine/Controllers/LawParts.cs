using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>The parts of a <see cref="FeedbackLaw"/> while a method compiles it.</summary>
internal sealed class LawParts
{
    /// <summary>The sensors so far.</summary>
    public List<Sensor> Sensors { get; } = [];

    /// <summary>The terms so far.</summary>
    public List<Term> Terms { get; } = [];

    /// <summary>The planes so far.</summary>
    public List<Plane> Planes { get; } = [];

    /// <summary>Edits so far.</summary>
    public List<ActivationEdit> Edits { get; } = [];

    /// <summary>Conditions on the prompt so far.</summary>
    public List<PromptCondition> Conditions { get; } = [];

    /// <summary>The method's own bound on |u_k|.</summary>
    public float MaxEffort { get; set; } = float.PositiveInfinity;

    /// <summary>Adds a sensor.</summary>
    /// <returns>Index of the sensor.</returns>
    public int Add(Sensor sensor)
    {
        Sensors.Add(sensor);
        return Sensors.Count - 1;
    }
}
