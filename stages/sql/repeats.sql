-- What comes again? Kept prompts that an earlier iteration kept too (case and blanks apart), and answers whose text their own prompt, or an earlier iteration, has already.
-- Earlier are the models it descends from (`prev` in params.yaml).
-- by: model
WITH asked AS (
    SELECT model,
        lower(trim(CASE WHEN regexp_matches(prompt, '\s\s|[^\S ]') THEN regexp_replace(prompt, '\s+', ' ', 'g') ELSE prompt END)) AS text
    FROM prompts WHERE dropped IS NULL
), askers AS (
    SELECT text, list(DISTINCT model) AS askers FROM asked GROUP BY text
), by_prompts AS (
    SELECT model, count(*) AS prompts, count(*) FILTER (list_has_any(askers, ancestors)) AS asked_before
    FROM asked JOIN askers USING (text) LEFT JOIN models USING (model)
    GROUP BY model
), said AS MATERIALIZED (
    SELECT model, hash(response) AS text, count(*) AS n FROM candidates GROUP BY model, hash(prompt_id), hash(response)
), writers AS MATERIALIZED (
    SELECT text, list(DISTINCT model) AS writers FROM said GROUP BY text
), by_answers AS (
    SELECT model, sum(n)::BIGINT AS answers, sum(n - 1)::BIGINT AS same_for_a_prompt, coalesce(sum(n) FILTER (list_has_any(writers, ancestors)), 0)::BIGINT AS said_before
    FROM said JOIN writers USING (text) LEFT JOIN models USING (model)
    GROUP BY model
)
SELECT * FROM by_prompts LEFT JOIN by_answers USING (model) ORDER BY length(model), model
