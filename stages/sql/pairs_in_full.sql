-- Which pairs are there, whole? Both answers with every judgement of each, evenly over the iterations, in an order that says nothing about them. $most: 20,000 by default.
-- may lack: pairs, candidates, scores, judgements
WITH drawn AS (
    SELECT *, row_number() OVER (PARTITION BY model ORDER BY hash(prompt_id), prompt_id) AS place
    FROM pairs ORDER BY place, length(model), model LIMIT coalesce($most, 20000)
), ids AS (
    SELECT model, unnest([chosen_id, rejected_id]) AS candidate_id FROM drawn
), judged AS (
    SELECT model, candidate_id, list({'score': score, 'text': text} ORDER BY k) AS judgements
    FROM judgements SEMI JOIN ids USING (model, candidate_id) GROUP BY ALL
), sides AS (
    SELECT model, candidate_id, {
        'id': candidate_id, 'text': response, 'tokens': tokens, 'score': scores.score, 'spread': spread,
        'judgements': coalesce(judgements, [])
    } AS side
    FROM candidates SEMI JOIN ids USING (model, candidate_id)
        JOIN scores USING (model, candidate_id) LEFT JOIN judged USING (model, candidate_id)
)
SELECT drawn.model, prompt, c.side AS chosen, r.side AS rejected
FROM drawn
    JOIN sides AS c ON (c.model, c.candidate_id) = (drawn.model, chosen_id)
    JOIN sides AS r ON (r.model, r.candidate_id) = (drawn.model, rejected_id)
ORDER BY place, length(drawn.model), drawn.model
